import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.Canvas
import android.net.Uri
import android.os.Build
import android.view.View
import android.widget.TextView
import java.io.File
import org.junit.Assert.assertTrue
import org.robolectric.RuntimeEnvironment
import org.robolectric.shadows.ShadowLooper
import org.skinedge.demo.R
import org.skinedge.demo.Settings
import org.skinedge.demo.runtime.RuntimeSettings

/** What the tests of the screens share: photos, waiting for the model's thread, pictures. */
object Screens {
    private const val PATIENCE_MS = 300_000L
    private val pictures = File(System.getProperty("screens")!!)
    private val photos = File(System.getProperty("photos")!!)

    fun photo(name: String): Uri = Uri.fromFile(File(photos, name))

    /** One thread: several wait for each other busily, which takes long where cores are shared. */
    fun useOneThread() {
        Settings(RuntimeEnvironment.getApplication()).runtime = RuntimeSettings(threads = 1, xnnpack = true)
    }

    /** What Python prepares of a photo. */
    fun prepared(name: String): ByteArray = File(photos, "$name.rgb").readBytes()

    fun shared(name: String): Intent =
        Intent(Intent.ACTION_SEND).setType("image/*").putExtra(Intent.EXTRA_STREAM, photo(name))

    /** Lets the main thread work off what other threads hand it, until `ready`. */
    fun await(what: String, ready: () -> Boolean) {
        val end = System.currentTimeMillis() + PATIENCE_MS
        while (!ready()) {
            assertTrue("waited in vain: $what", System.currentTimeMillis() < end)
            ShadowLooper.idleMainLooper()
            Thread.sleep(5)
        }
        ShadowLooper.idleMainLooper()
    }

    fun Activity.text(id: Int): String = findViewById<TextView>(id).text.toString()

    fun Activity.shows(id: Int): Boolean = findViewById<View>(id).isShown

    /** A result or a fault is on the screen. */
    fun Activity.awaitOutcome() = await("an outcome") { shows(R.id.result) || shows(R.id.fault) }

    /** Draws the whole window into .cache/android/screens/NAME-SDK.png. */
    fun Activity.picture(name: String) {
        ShadowLooper.idleMainLooper()
        val view = window.decorView
        val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        File(pictures, "$name-${Build.VERSION.SDK_INT}.png").outputStream().use {
            assertTrue(bitmap.compress(Bitmap.CompressFormat.PNG, 100, it))
        }
    }

    /** The variants in which every screen is drawn: name to what Robolectric must be told. */
    val VARIANTS: Map<String, () -> Unit> = mapOf(
        "light" to {},
        "dark" to { RuntimeEnvironment.setQualifiers("+night") },
        "landscape" to { RuntimeEnvironment.setQualifiers("+land") },
        "large" to { RuntimeEnvironment.setFontScale(2f) },
        "german" to { RuntimeEnvironment.setQualifiers("+de") },
    )

    /** The same for each variant, from a fresh start. */
    fun inEachVariant(act: (String) -> Unit) = VARIANTS.forEach { (name, begin) ->
        RuntimeEnvironment.setQualifiers("en-w360dp-h740dp-port-notnight-xhdpi")
        RuntimeEnvironment.setFontScale(1f)
        begin()
        act(name)
    }
}
