import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.Base64
import java.util.Random
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.skinedge.demo.core.parseJson
import org.skinedge.demo.core.readProfile
import org.skinedge.demo.core.withoutProfile

/** Replays tests/colour_vectors.json, which Python and the web page replay too. */
class ColourTest {
    private val vectors = parseJson(File(System.getProperty("oracle"), "colours.json").readText()) as List<*>

    @Test
    fun profilesAreReadAndColoursConvertedAsInPython() {
        assertTrue(vectors.size >= 15)
        for (vector in vectors) {
            val said = vector as Map<*, *>
            val read = readProfile(bytes(said, "profile"))
            assertEquals("${said["kind"]}", said["name"], read.name)
            assertEquals("${said["kind"]}", said["problem"], read.problem)
            assertEquals("${said["kind"]}", said["table_sha256"], read.table?.let { sha256(it.light) })
            val colours = bytes(said, "colours")
            val converted = ByteArray(colours.size)
            for (at in colours.indices step 3) {
                val pixel = (0..2).fold(255) { all, channel -> all shl 8 or (colours[at + channel].toInt() and 255) }
                val found = read.table?.srgb(pixel) ?: pixel
                for (channel in 0..2) converted[at + channel] = (found shr (16 - 8 * channel)).toByte()
            }
            assertArrayEquals("${said["kind"]}", bytes(said, "converted"), converted)
        }
    }

    @Test
    fun anyBytesGiveAResult() {
        val random = Random(0)
        for (vector in vectors) for (round in 0 until 50) {
            val data = bytes(vector as Map<*, *>, "profile")
            repeat(3) { data[random.nextInt(data.size)] = random.nextInt(256).toByte() }
            val read = readProfile(data.copyOf(if (round % 5 == 0) random.nextInt(data.size) else data.size))
            read.table?.let { table -> repeat(100) { table.srgb(random.nextInt()) } }
        }
    }

    /** Damaged heads are an IOException, which the app reports, or give a stream. */
    @Test
    fun damagedPhotosAreReadOrRefused() {
        val random = Random(1)
        var refused = 0
        val starts = listOf("\u00ff\u00d8\u00ff\u00e2", "\u0089PNG\r\n\u001a\n", "RIFF\u0000\u0000\u0000\u0000WEBPVP8X")
        for (start in starts) repeat(200) {
            val noise = ByteArray(random.nextInt(300)).also(random::nextBytes)
            try {
                withoutProfile(ByteArrayInputStream(start.toByteArray(Charsets.ISO_8859_1) + noise)).plain.readBytes()
            } catch (error: IOException) {
                refused++
            }
        }
        assertTrue("$refused", refused in 100 until 600)
    }

    private fun bytes(said: Map<*, *>, key: String): ByteArray = Base64.getDecoder().decode(said[key] as String)

    private fun sha256(values: IntArray): String {
        val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
        values.forEach(buffer::putInt)
        return MessageDigest.getInstance("SHA-256").digest(buffer.array()).joinToString("") { "%02x".format(it) }
    }
}
