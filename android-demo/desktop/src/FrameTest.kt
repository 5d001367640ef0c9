import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.skinedge.demo.core.Heatmap
import org.skinedge.demo.core.frameRing
import org.skinedge.demo.core.parseJson

/** Replays tests/frame_vectors.json, which Python and the web page replay too. */
class FrameTest {
    @Test
    fun framesAreFoundAsInPython() {
        val vectors = parseJson(File(System.getProperty("oracle"), "frames.json").readText()) as List<*>
        assertTrue(vectors.size >= 100)
        vectors.forEachIndexed { i, vector ->
            val row = vector as Map<*, *>
            val values = (row["values"] as List<*>).map { (it as Double).toFloat() }.toFloatArray()
            val map = Heatmap((row["height"] as Double).toInt(), (row["width"] as Double).toInt(), values)
            assertEquals("map $i", (row["ring"] as Double?)?.toInt(), frameRing(map))
        }
    }
}
