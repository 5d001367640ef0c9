import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.core.Photo
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.parseJson
import org.skinedge.demo.core.upright

/** The files of tools/oracle.py: inputs and Python's results. */
object Oracle {
    private val folder = File(System.getProperty("oracle"))
    private val index = parseJson(File(folder, "index.json").readText()) as Map<*, *>

    val size = whole(index, "size")
    val card: ModelCard by lazy { ModelCard.parse(cardText) }
    val cardText: String by lazy { File(folder, "${index["model"]}${ModelCard.SUFFIX}").readText() }

    /** The model file as an app maps it: a direct buffer in native order. */
    fun model(): ByteBuffer = direct(File(folder, index["model"] as String).readBytes())

    fun direct(content: ByteArray): ByteBuffer {
        val buffer = ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder())
        buffer.put(content)
        buffer.rewind()
        return buffer
    }

    val images: List<Prepared> by lazy { squares("pixels.u8") }
    val prepared: List<Prepared> by lazy { squares("prepared.u8") }
    val overlays: List<Prepared> by lazy { squares("overlays.u8") }
    val probabilities: List<FloatArray> by lazy { floats("probabilities.f32") }
    val heatmaps: List<FloatArray> by lazy { floats("heatmaps.f32") }

    val photos: List<Photo> by lazy {
        val pixels = ByteBuffer.wrap(bytes("photos.argb")).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer()
        (index["photos"] as List<*>).map {
            val said = it as Map<*, *>
            val (width, height) = whole(said, "width") to whole(said, "height")
            val own = IntArray(width * height)
            pixels.get(own)
            upright(ArrayPhoto(width, height, own), whole(said, "orientation"))
        }
    }

    private fun squares(name: String): List<Prepared> = bytes(name).let { all ->
        val each = size * size * 3
        List(all.size / each) { Prepared(size, all.copyOfRange(it * each, (it + 1) * each)) }
    }

    private fun floats(name: String): List<FloatArray> {
        val all = ByteBuffer.wrap(bytes(name)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
        val each = all.remaining() / images.size
        return List(images.size) { FloatArray(each).also { row -> all.get(row) } }
    }

    private fun bytes(name: String) = File(folder, name).readBytes()

    private fun whole(said: Map<*, *>, key: String) = (said[key] as Double).toInt()
}

/** A photo in an array, 0xAARRGGBB. */
class ArrayPhoto(override val width: Int, override val height: Int, private val pixels: IntArray) : Photo {
    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
        for (y in 0 until height) System.arraycopy(pixels, (top + y) * this.width + left, into, y * width, width)
    }
}
