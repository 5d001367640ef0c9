import android.content.ContentResolver
import android.net.Uri
import kotlin.math.abs
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.RuntimeEnvironment
import org.skinedge.demo.core.AS_STORED
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.SRGB
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

    /** Photos with colour profiles, by both rules; Android's own conversion, of which versions differ, has no part. */
    @Test
    fun colourProfilesAreIgnoredOrConvertedAsPythonDoes() {
        for (rule in listOf(AS_STORED, SRGB)) {
            for (kind in listOf("p3.jpg", "p3.png", "p3.webp", "adobe.jpg", "adobe.png", "lookup.png", "srgb.png")) {
                assertEquals("$kind, $rule", 0, difference("$rule-$kind", rule))
            }
        }
        assertEquals("'Display P3'", photos.decode(Screens.photo("srgb-p3.jpg"), SRGB).profile!!.name)
        assertEquals("made of lookup tables", photos.decode(Screens.photo("srgb-lookup.png"), SRGB).profile!!.problem)
        assertNull(photos.decode(Screens.photo("srgb-srgb.png"), SRGB).profile)
        assertNull(photos.decode(Screens.photo("photo.jpg"), SRGB).profile)
        assertEquals(2, photos.decode(Screens.photo("srgb-p3.jpg"), SRGB, budget = 100_000).reducedBy.coerceAtMost(2))
    }

    @Test
    fun whatAndroidReadsOtherwiseIsRefused() {
        for (rule in listOf(AS_STORED, SRGB)) fault(Fault.PHOTO_16_BIT, Screens.photo("deep.png"), rule)
    }

    private fun difference(name: String, rule: String = AS_STORED): Int {
        val decoded = photos.decode(Screens.photo(name), rule)
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

    private fun fault(expected: Fault, uri: Uri, rule: String = AS_STORED) {
        val thrown = assertThrows("$uri", FaultException::class.java) { photos.decode(uri, rule) }
        assertEquals("$uri: ${thrown.message}", expected, thrown.fault)
    }

    @Test
    fun onlyWhatDoesNotFitIsReduced() {
        assertEquals(1, reduction(4000, 3000, 48_000_000))
        assertEquals(2, reduction(4000, 3000, 47_999_999))
        assertEquals(4, reduction(16_384, 12_288, 100_000_000))
        val whole = photos.decode(Screens.photo("photo.jpg"), AS_STORED).photo
        val reduced = photos.decode(Screens.photo("photo.jpg"), AS_STORED, budget = 4L * whole.width * whole.height - 1)
        assertEquals(2, reduced.reducedBy)
        assertEquals(whole.width / 2, reduced.photo.width)
    }

    @Test
    fun aPhotoOf200MegapixelsIsRefusedByItsHeader() {
        fault(Fault.PHOTO_PIXELS, Screens.photo("huge.jpg"))
    }
}
