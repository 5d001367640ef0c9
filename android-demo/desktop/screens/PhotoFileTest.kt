import android.content.ContentResolver
import android.net.Uri
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.RuntimeEnvironment
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.prepare
import org.skinedge.demo.decode
import org.skinedge.demo.reduction

/** Compares photos decoded by Android with Python's pixels of the same files. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [28, 35], qualifiers = "en-w360dp-h740dp-port-notnight-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class PhotoFileTest {
    private val photos: ContentResolver get() = RuntimeEnvironment.getApplication().contentResolver

    @Test
    fun photosArePreparedAsPythonDoes() {
        for (turn in 1..8) assertEquals("turned-$turn.jpg", 0, difference("turned-$turn.jpg"))
        for (name in listOf("photo.jpg", "grey.jpg", "palette.png")) assertEquals(name, 0, difference(name))
    }

    /** Tolerances for other decoders' rounding: transparency, conversion of CMYK, YUV of WebP. */
    @Test
    fun rarerKindsStayClose() {
        for ((name, most) in listOf("clear.png" to 1, "photo.webp" to 2, "cmyk.jpg" to 3)) {
            val found = difference(name)
            println("$name: $found of 255")
            assertTrue("$name: $found", found <= most)
        }
    }

    private fun difference(name: String): Int {
        val decoded = photos.decode(Screens.photo(name))
        assertEquals(1, decoded.reducedBy)
        val found = prepare(decoded.photo, 224).rgb
        val expected = Screens.prepared(name)
        assertEquals(expected.size, found.size)
        return found.indices.maxOf { abs((found[it].toInt() and 255) - (expected[it].toInt() and 255)) }
    }

    @Test
    fun brokenFilesAreFaults() {
        for (name in listOf("letter.jpg", "empty.jpg", "missing.jpg")) fault(Fault.PHOTO_UNREADABLE, Screens.photo(name))
        fault(Fault.PHOTO_UNREADABLE, Uri.EMPTY)
        fault(Fault.PHOTO_UNREADABLE, Uri.parse("content://nobody/photo")) // Robolectric's stream throws on reading
        fault(Fault.PHOTO_CUT_OFF, Screens.photo("cut-off.jpg"))
    }

    private fun fault(expected: Fault, uri: Uri) {
        val thrown = assertThrows("$uri", FaultException::class.java) { photos.decode(uri) }
        assertEquals("$uri: ${thrown.message}", expected, thrown.fault)
    }

    @Test
    fun onlyWhatDoesNotFitIsReduced() {
        assertEquals(1, reduction(4000, 3000, 48_000_000))
        assertEquals(2, reduction(4000, 3000, 47_999_999))
        assertEquals(4, reduction(16_384, 12_288, 100_000_000))
        val whole = photos.decode(Screens.photo("photo.jpg")).photo
        val reduced = photos.decode(Screens.photo("photo.jpg"), budget = 4L * whole.width * whole.height - 1)
        assertEquals(2, reduced.reducedBy)
        assertEquals(whole.width / 2, reduced.photo.width)
    }

    @Test
    fun aPhotoOf200MegapixelsIsRefusedByItsHeader() {
        fault(Fault.PHOTO_PIXELS, Screens.photo("huge.jpg"))
    }
}
