import Screens.awaitOutcome
import Screens.inEachVariant
import Screens.picture
import Screens.shows
import Screens.text
import android.Manifest
import android.content.Intent
import android.view.View
import android.view.ViewGroup
import android.widget.RadioGroup
import android.widget.ScrollView
import android.widget.Switch
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows
import org.skinedge.demo.BenchmarkActivity
import org.skinedge.demo.Engine
import org.skinedge.demo.LiveFrame
import org.skinedge.demo.MainActivity
import org.skinedge.demo.Outcome
import org.skinedge.demo.R
import org.skinedge.demo.ResultActivity
import org.skinedge.demo.Settings
import org.skinedge.demo.SettingsActivity
import org.skinedge.demo.core.AS_STORED
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.parseJson
import org.skinedge.demo.decode
import org.skinedge.demo.live
import org.skinedge.demo.runtime.RuntimeSettings
import java.io.File

/** Every screen with the shipped model in Android's own TFLite: its texts, and a screenshot in each variant. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [28, 35], qualifiers = "en-w360dp-h740dp-port-notnight-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class ScreenTest {
    @Before
    fun oneThread() = Screens.useOneThread()

    @Test
    fun theStart() = inEachVariant { variant ->
        val main = Robolectric.buildActivity(MainActivity::class.java).setup()
        Screens.await("the model's domain") { main.get().text(R.id.domain).isNotEmpty() }
        notices(main.get())
        main.get().picture("start-$variant")
        main.pause().stop().destroy()
    }

    @Test
    fun theCamerasPicture() = inEachVariant { variant ->
        Shadows.shadowOf(RuntimeEnvironment.getApplication()).grantPermissions(Manifest.permission.CAMERA)
        val main = Robolectric.buildActivity(MainActivity::class.java).setup()
        Screens.await("the camera's panel") { main.get().shows(R.id.live) }
        main.get().show(answered())
        assertTrue(main.get().shows(R.id.hold) && main.get().shows(R.id.evidence))
        notices(main.get())
        main.get().picture("camera-$variant")
        main.get().findViewById<View>(R.id.hold).performClick()
        val next = Shadows.shadowOf(main.get()).nextStartedActivity
        assertEquals(ResultActivity::class.java.name, next.component!!.className)
        assertNotNull(RuntimeEnvironment.getApplication().contentResolver.decode(next.data!!, AS_STORED))
        main.pause().stop().destroy()
    }

    private fun answered(): LiveFrame {
        var found: LiveFrame? = null
        val photos = RuntimeEnvironment.getApplication().contentResolver
        Engine.start(RuntimeEnvironment.getApplication()) { live(it, photos.decode(Screens.photo("photo.jpg"), AS_STORED).photo) }.listener =
            object : Outcome<LiveFrame> {
                override fun done(value: LiveFrame) { found = value }
                override fun failed(fault: FaultException) = throw fault
            }
        Screens.await("an answer") { found != null }
        return found!!
    }

    @Test
    fun theResult() = inEachVariant { variant ->
        val result = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("photo.jpg")).setup()
        val screen = result.get()
        screen.awaitOutcome()
        assertTrue(screen.shows(R.id.result))
        notices(screen)
        assertEquals(5, screen.findViewById<ViewGroup>(R.id.classes).childCount)
        screen.picture("result-$variant")
        val scroll = screen.findViewById<View>(R.id.headline).ancestor<ScrollView>()
        scroll.scrollTo(0, scroll.getChildAt(0).height - scroll.height)
        screen.picture("result-end-$variant")
        result.pause().stop().destroy()
    }

    private inline fun <reified T> View.ancestor(): T = generateSequence(parent) { it.parent }.filterIsInstance<T>().first()

    @Test
    fun theEvidenceCanBeHiddenAndChosen() {
        val screen = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("photo.jpg")).setup().get()
        screen.awaitOutcome()
        val photo = screen.findViewById<View>(R.id.photo)
        val classes = screen.findViewById<ViewGroup>(R.id.classes)
        val first = photo.contentDescription.toString()
        classes.getChildAt(1).performClick()
        assertTrue(photo.contentDescription.toString() != first)
        assertTrue("%" in classes.getChildAt(1).contentDescription)
        screen.findViewById<Switch>(R.id.evidence_shown).isChecked = false
        assertEquals(screen.getString(R.string.photo), photo.contentDescription)
        assertTrue(!screen.shows(R.id.legend))
    }

    @Test
    fun theSettings() = inEachVariant { variant ->
        val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        Screens.await("the model's card") { settings.get().text(R.id.model).isNotEmpty() }
        settings.get().picture("settings-$variant")
        settings.pause().stop().destroy()
    }

    @Test
    fun whatIsChosenIsKeptAndUsed() {
        Settings(RuntimeEnvironment.getApplication()).runtime = RuntimeSettings(threads = 2, xnnpack = true)
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        screen.findViewById<RadioGroup>(R.id.threads).check(1)
        screen.findViewById<Switch>(R.id.xnnpack).isChecked = false
        val result = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("photo.jpg")).setup().get()
        result.awaitOutcome()
        assertTrue(result.text(R.id.runtime), "1 thread" in result.text(R.id.runtime))
        assertTrue(result.text(R.id.runtime), "without XNNPACK" in result.text(R.id.runtime))
    }

    /** The benchmark runs once: its result survives a rotation. */
    @Test
    fun theBenchmark() {
        val benchmark = Robolectric.buildActivity(BenchmarkActivity::class.java).setup()
        benchmark.get().findViewById<View>(R.id.start).performClick()
        Screens.await("the benchmark's end") { benchmark.get().shows(R.id.outcome) }
        val kept = parseJson(File(benchmark.get().filesDir, "latency.json").readText()) as Map<*, *>
        assertEquals("skinedge.bench/1", kept["schema"])
        assertEquals(120.0, ((kept["rows"] as List<*>).single() as Map<*, *>)["n"])
        inEachVariant { variant ->
            benchmark.recreate()
            val screen = benchmark.get()
            assertTrue(screen.text(R.id.outcome), screen.shows(R.id.outcome) && screen.shows(R.id.save))
            screen.picture("benchmark-$variant")
        }
    }

    @Test
    fun photosAreChosenWithoutAnyPermission() {
        val main = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        Screens.await("the buttons") { main.text(R.id.domain).isNotEmpty() }
        main.findViewById<View>(R.id.pick).performClick()
        val asked = Shadows.shadowOf(main).nextStartedActivityForResult.intent
        val expected = if (android.os.Build.VERSION.SDK_INT >= 33) "android.provider.action.PICK_IMAGES" else Intent.ACTION_OPEN_DOCUMENT
        assertEquals(expected, asked.action)
        assertEquals("image/*", asked.type)
    }

    private fun notices(screen: android.app.Activity) {
        assertTrue(screen.shows(R.id.notice))
        assertEquals(screen.getString(R.string.notice), screen.text(R.id.notice))
        assertTrue(screen.text(R.id.domain).isNotEmpty())
    }
}
