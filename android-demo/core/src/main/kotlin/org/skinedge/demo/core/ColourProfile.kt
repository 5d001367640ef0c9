package org.skinedge.demo.core

import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.nio.charset.CharacterCodingException
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sqrt

/** Rules of a model for photos with an embedded colour profile; earlier models' cards do not state theirs. */
const val AS_STORED = "as-stored"
const val SRGB = "srgb"

/**
 * An ICC profile. problem: why it is not converted, null if it is understood; table: of the conversion, null for sRGB and
 * with a problem.
 */
class ColourProfile(val name: String, val problem: String?, val table: ColourTable?)

/** The integer table of a conversion. light: 3 outputs x 3 channels x 256 bytes. */
class ColourTable(val light: IntArray) {

    /** Converts an opaque pixel, 0xFFRRGGBB. */
    fun srgb(pixel: Int): Int {
        val red = pixel shr 16 and 255
        val green = CHANNEL + (pixel shr 8 and 255)
        val blue = 2 * CHANNEL + (pixel and 255)
        var converted = 255
        for (output in 0 until 3) {
            val start = output * 3 * CHANNEL
            val sum = light[start + red] + light[start + green] + light[start + blue]
            converted = converted shl 8 or (ENCODED[BIAS + sum].toInt() and 255)
        }
        return converted
    }
}

/** A photo with its colours converted; transparent pixels are composed on white first. */
class SrgbPhoto(private val photo: Photo, private val table: ColourTable) : Photo {
    override val width get() = photo.width
    override val height get() = photo.height

    override fun read(left: Int, top: Int, width: Int, height: Int, into: IntArray) {
        photo.read(left, top, width, height, into)
        for (i in 0 until width * height) into[i] = table.srgb(onWhite(into[i]))
    }
}

/**
 * Reads an ICC profile; any bytes give a result. The table equals that of skinedge/core/colour.py, which explains it, bit
 * for bit: only integers and operations that IEEE 754 rounds correctly are used.
 */
fun readProfile(data: ByteArray): ColourProfile {
    val icc = Icc(data)
    val name = try {
        icc.name()
    } catch (error: UnsupportedException) {
        null
    } catch (error: IndexOutOfBoundsException) {
        null
    } catch (error: CharacterCodingException) {
        null
    }
    val (problem, table) = try {
        null to icc.table()
    } catch (error: UnsupportedException) {
        error.message to null
    } catch (error: IndexOutOfBoundsException) {
        "damaged" to null
    }
    return ColourProfile(name ?: "without a name", problem, table)
}

private class UnsupportedException(problem: String) : Exception(problem)

private class Icc(private val data: ByteArray) {
    private val fields = ByteBuffer.wrap(data)

    fun name(): String? {
        val tag = tag("desc")
        val tagFields = ByteBuffer.wrap(tag)
        val found = if (text(tag, 0) == "mluc") {
            val at = tagFields.whole(24)
            val size = tagFields.whole(20)
            val end = min(tag.size.toLong(), at + size).toInt()
            val part = if (at < end) ByteBuffer.wrap(tag, at.toInt(), end - at.toInt()) else ByteBuffer.allocate(0)
            Charsets.UTF_16BE.newDecoder().decode(part)
        } else {
            val end = min(tag.size.toLong(), 12 + tagFields.whole(8)).toInt()
            CharBuffer.wrap(String(tag, 12, max(0, end - 12), Charsets.ISO_8859_1))
        }
        val words = found.toString().replace('\u0000', ' ').split(Regex("\\s+")).filter { it.isNotEmpty() }
        return words.joinToString(" ").take(LONGEST_NAME).ifEmpty { null }?.let { "'$it'" }
    }

    /** The table, null for sRGB. */
    fun table(): ColourTable? {
        val colorants = colorants()
        val table = build(colorants, listOf("rTRC", "gTRC", "bTRC").map { curve(tag(it)) })
        return if (isSrgb(table)) null else table
    }

    /** The content of the first tag of this name. */
    private fun tag(name: String): ByteArray {
        val count = min(fields.whole(128), MOST_TAGS).toInt()
        for (entry in 0 until count) {
            val at = 132 + 12 * entry
            val offset = fields.whole(at + 4)
            val size = fields.whole(at + 8)
            if (text(data, at) != name) continue
            if (offset + size > data.size) break
            return data.copyOfRange(offset.toInt(), (offset + size).toInt())
        }
        throw UnsupportedException("damaged")
    }

    private fun hasTag(name: String): Boolean = try {
        tag(name).isNotEmpty()
    } catch (error: UnsupportedException) {
        false
    }

    private fun colorants(): List<IntArray> {
        if (text(data, 36) != "acsp" || fields.whole(0) > data.size) throw UnsupportedException("damaged")
        val kind = text(data, 16)
        if (kind != "RGB ") throw UnsupportedException("for ${KINDS[kind] ?: "other than RGB"} images")
        val lookup = listOf("A", "D").flatMap { side -> (0..3).map { "${side}2B$it" } }
        if (text(data, 20) != "XYZ " || lookup.any { hasTag(it) }) throw UnsupportedException("made of lookup tables")
        return listOf("rXYZ", "gXYZ", "bXYZ").map { name ->
            val tag = tag(name)
            val xyz = ByteBuffer.wrap(tag).let { tagFields -> IntArray(3) { tagFields.getInt(8 + 4 * it) } }
            if (text(tag, 0) != "XYZ " || xyz.any { abs(it.toLong()) >= LARGEST }) throw UnsupportedException("damaged")
            xyz
        }
    }
}

private fun ByteBuffer.whole(at: Int): Long = getInt(at).toLong() and 0xFFFFFFFFL

private fun text(bytes: ByteArray, at: Int): String =
    if (at >= bytes.size) "" else String(bytes, at, min(4, bytes.size - at), Charsets.ISO_8859_1)

/** The linear light, 0..65535, of each byte. */
private fun curve(tag: ByteArray): IntArray {
    val fields = ByteBuffer.wrap(tag)
    val kind = text(tag, 0)
    val number = fields.getShort(8).toInt() and 0xFFFF
    if (kind == "para" && number < PARAMETERS.size) {
        return parametric(number, IntArray(PARAMETERS[number]) { fields.getInt(12 + 4 * it) })
    }
    if (kind != "curv") throw UnsupportedException("damaged")
    val count = fields.whole(8)
    if (12 + 2 * count > tag.size) throw UnsupportedException("damaged")
    fun value(index: Long) = fields.getShort(12 + 2 * min(index, count - 1).toInt()).toInt() and 0xFFFF
    return when (count) {
        0L -> IntArray(256) { 257 * it }
        1L -> parametric(0, intArrayOf(value(0) shl 8))
        else -> IntArray(256) {
            val place = it * (count - 1)
            val (at, rest) = place / 255 to (place % 255).toInt()
            (value(at) * (255 - rest) + value(at + 1) * rest + 127) / 255
        }
    }
}

/** parameters: in units of 2^-16. */
private fun parametric(kind: Int, parameters: IntArray): IntArray {
    val gamma = parameters[0]
    if (gamma !in 1..(16 shl 16)) throw UnsupportedException("damaged")
    val (a, b, c, d, e) = List(5) { if (it + 1 < parameters.size) parameters[it + 1] / 65536.0 else 0.0 }
    val f = if (parameters.size > 6) parameters[6] / 65536.0 else 0.0
    return IntArray(256) {
        val x = it / 255.0
        val base = (if (kind == 0) 1.0 else a) * x + b
        val above = power(max(base, 0.0), gamma)
        round16(
            when {
                kind < 3 -> (if (base >= 0) above else 0.0) + (if (kind == 2) c else 0.0)
                x >= d -> above + e
                else -> c * x + f
            },
        )
    }
}

/** base to the power of exponent / 2^16. */
private fun power(base: Double, exponent: Int): Double {
    var result = 1.0
    repeat(exponent shr 16) { result *= base }
    var root = base
    for (bit in 15 downTo 0) {
        root = sqrt(root)
        if (exponent shr bit and 1 == 1) result *= root
    }
    return result
}

private fun round16(value: Double): Int = floor(min(max(value, 0.0), 1.0) * 65535 + 0.5).toInt()

private fun build(colorants: List<IntArray>, curves: List<IntArray>): ColourTable {
    val light = IntArray(3 * 3 * CHANNEL)
    FROM_XYZ.forEachIndexed { output, row ->
        var least = 0L
        var most = 0L
        curves.forEachIndexed { channel, curve ->
            val sum = (0 until 3).sumOf { row[it] * colorants[channel][it] }
            val factor = (sum + (1L shl 23)) shr 24
            val values = curve.map { (factor * it + (1L shl 17)) shr 18 }
            least += values.min()
            most += values.max()
            values.forEachIndexed { byte, value -> light[(output * 3 + channel) * CHANNEL + byte] = value.toInt() }
        }
        if (least < -BIAS || most >= 65536 - BIAS) throw UnsupportedException("outside the range of the conversion")
    }
    return ColourTable(light)
}

/** True if no colour of a 9 x 9 x 9 grid changes by more than one level. */
private fun isSrgb(table: ColourTable): Boolean {
    val levels = List(9) { 255 * it / 8 }
    return levels.all { red ->
        levels.all { green ->
            levels.all { blue ->
                val found = table.srgb((255 shl 24) or (red shl 16) or (green shl 8) or blue)
                abs((found shr 16 and 255) - red) <= 1 && abs((found shr 8 and 255) - green) <= 1 && abs((found and 255) - blue) <= 1
            }
        }
    }
}

private fun srgbLinear(x: Double): Double = if (x <= 0.04045) x / 12.92 else power((x + 0.055) / 1.055, SRGB_GAMMA)

/** The byte of each sum of a pixel, shifted by [BIAS]. */
private val ENCODED: ByteArray by lazy {
    val bounds = IntArray(255) { ceil(16383.75 * srgbLinear((2 * it + 1) / 510.0)).toInt() }
    var byte = 0
    ByteArray(65536) {
        while (byte < 255 && it - BIAS >= bounds[byte]) byte++
        byte.toByte()
    }
}

private val FROM_XYZ = listOf(
    longArrayOf(52584397, -27133356, -8233164),
    longArrayOf(-16421465, 32147857, 561266),
    longArrayOf(1207600, -3841813, 23584544),
)
private val KINDS = mapOf("GRAY" to "grey", "CMYK" to "CMYK")
private val PARAMETERS = intArrayOf(1, 3, 4, 5, 7)
private const val CHANNEL = 256
private const val SRGB_GAMMA = 157286
private const val LARGEST = 4L shl 16
private const val BIAS = 24576
private const val MOST_TAGS = 1000L
private const val LONGEST_NAME = 60
