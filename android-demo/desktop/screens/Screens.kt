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

/** Shared helpers of the screen tests: photos, waiting for the model's thread, screenshots. */
object Screens {
    private const val PATIENCE_MS = 300_000L
    private val pictures = File(System.getProperty("screens")!!)
    private val photos = File(System.getProperty("photos")!!)

    fun photo(name: String): Uri = Uri.fromFile(File(photos, name))

    /** One thread: several threads busy-wait for each other, which is slow on shared cores. */
    fun useOneThread() {
        Settings(RuntimeEnvironment.getApplication()).runtime = RuntimeSettings(threads = 1, xnnpack = true)
    }

    /** Python's prepared pixels of a photo. */
    fun prepared(name: String): ByteArray = File(photos, "$name.rgb").readBytes()

    fun shared(name: String): Intent =
        Intent(Intent.ACTION_SEND).setType("image/*").putExtra(Intent.EXTRA_STREAM, photo(name))

    /** Runs the main thread's queue until `ready`. */
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

    /** True if the screen shows a result or a fault. */
    fun Activity.awaitOutcome() = await("an outcome") { shows(R.id.result) || shows(R.id.fault) }

    /** Saves a screenshot of the whole window to .cache/android/screens/NAME-SDK.png. */
    fun Activity.picture(name: String) {
        ShadowLooper.idleMainLooper()
        val view = window.decorView
        val bitmap = Bitmap.createBitmap(view.width, view.height, Bitmap.Config.ARGB_8888)
        view.draw(Canvas(bitmap))
        File(pictures, "$name-${Build.VERSION.SDK_INT}.png").outputStream().use {
            assertTrue(bitmap.compress(Bitmap.CompressFormat.PNG, 100, it))
        }
    }

    /** The variants of every screenshot: name to Robolectric's qualifiers. */
    val VARIANTS: Map<String, () -> Unit> = mapOf(
        "light" to {},
        "dark" to { RuntimeEnvironment.setQualifiers("+night") },
        "landscape" to { RuntimeEnvironment.setQualifiers("+land") },
        "large" to { RuntimeEnvironment.setFontScale(2f) },
        "german" to { RuntimeEnvironment.setQualifiers("+de") },
    )

    /** Runs a block for each variant, each from a new start. */
    fun inEachVariant(act: (String) -> Unit) = VARIANTS.forEach { (name, begin) ->
        RuntimeEnvironment.setQualifiers("en-w360dp-h740dp-port-notnight-xhdpi")
        RuntimeEnvironment.setFontScale(1f)
        begin()
        act(name)
    }
}
