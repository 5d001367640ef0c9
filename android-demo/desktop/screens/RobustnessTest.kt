import Screens.awaitOutcome
import Screens.picture
import Screens.shows
import Screens.text
import android.Manifest
import android.content.Intent
import android.content.pm.PackageManager
import android.view.View
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.robolectric.Robolectric
import org.robolectric.RuntimeEnvironment
import org.skinedge.demo.BenchmarkActivity
import org.skinedge.demo.Engine
import org.skinedge.demo.MainActivity
import org.skinedge.demo.R
import org.skinedge.demo.ResultActivity
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.core.parseJson
import org.skinedge.demo.installedModel
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork

/** Models, photos and moments that could crash the app: each ends with a message on the screen. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [28, 35], qualifiers = "en-w360dp-h740dp-port-notnight-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class RobustnessTest {
    private val sound = Engine.source
    private val assets get() = RuntimeEnvironment.getApplication().assets
    private val cardText get() = assets.open(cardName).bufferedReader().use { it.readText() }
    private val cardName get() = assets.list("")!!.single { it.endsWith(ModelCard.SUFFIX) }

    @Before
    fun freshModel() {
        Screens.useOneThread()
        Engine.forget()
    }

    @After
    fun soundModel() {
        Engine.source = sound
        Engine.forget()
    }

    private fun model(card: ModelCard): ByteBuffer {
        val content = assets.open(card.file).use { it.readBytes() }
        val buffer = ByteBuffer.allocateDirect(content.size).order(ByteOrder.nativeOrder())
        buffer.put(content)
        buffer.rewind()
        return buffer
    }

    private fun open(card: ModelCard, model: ByteBuffer) = Classifier.open(card, model) { TfliteNetwork(it, RuntimeSettings(1, true)) }

    private fun saysWhatIsWrong(expected: Fault, picture: String? = null, source: () -> Classifier) {
        Engine.forget()
        Engine.source = { _, _ -> source() }
        val thrown = org.junit.Assert.assertThrows(FaultException::class.java) { source() }
        assertEquals(expected, thrown.fault)
        val main = Robolectric.buildActivity(MainActivity::class.java).setup()
        val result = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("photo.jpg")).setup()
        for (screen in listOf(main.get(), result.get())) {
            Screens.await("the fault") { screen.shows(R.id.fault) }
            for (fact in thrown.facts) assertTrue(screen.text(R.id.fault_text), fact in screen.text(R.id.fault_text))
            assertTrue(screen.shows(R.id.notice))
        }
        assertFalse(main.get().shows(R.id.buttons) || result.get().shows(R.id.result))
        picture?.let { main.get().picture(it) }
        listOf(main, result).forEach { it.pause().stop().destroy() }
    }

    @Test
    fun aModelThatMustNotBeBelievedIsNotRun() {
        val card = ModelCard.parse(cardText)
        saysWhatIsWrong(Fault.NO_MODEL) { throw FaultException(Fault.NO_MODEL, "0 cards in assets, expected one") }
        saysWhatIsWrong(Fault.CARD_UNREADABLE) { installed(cardText.dropLast(10)) }
        saysWhatIsWrong(Fault.CARD_SCHEMA) { installed(cardText.replace("skinedge.file/1", "skinedge.file/9")) }
        saysWhatIsWrong(Fault.CARD_INCOMPLETE) { installed(cardText.replace("\"flag_from\"", "\"flag\"")) }
        saysWhatIsWrong(Fault.MODEL_CHANGED, "fault") {
            open(card, model(card).also { it.put(it.capacity() / 2, (it.get(it.capacity() / 2) + 1).toByte()) })
        }
        saysWhatIsWrong(Fault.LABELS_DIFFER) { open(card.copy(classes = card.classes.drop(1)), model(card)) }
    }

    private fun installed(text: String): Classifier = ModelCard.parse(text).let { open(it, model(it)) }

    @Test
    fun aPhotoThatCannotBeReadIsSaidSo() {
        val expected = mapOf(
            "letter.jpg" to R.string.fault_photo_unreadable,
            "empty.jpg" to R.string.fault_photo_unreadable,
            "missing.jpg" to R.string.fault_photo_unreadable,
            "cut-off.jpg" to R.string.fault_photo_cut_off,
            "strip.png" to R.string.fault_photo_strip,
            "huge.jpg" to R.string.fault_photo_pixels,
            "deep.png" to R.string.fault_photo_16_bit,
        )
        for ((name, text) in expected) {
            val screen = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared(name)).setup().get()
            screen.awaitOutcome()
            assertTrue(name, screen.shows(R.id.fault) && !screen.shows(R.id.result))
            val begin = screen.getString(text).substringBefore('%')
            assertTrue("$name: ${screen.text(R.id.fault_text)}", screen.text(R.id.fault_text).startsWith(begin))
            if (name == "cut-off.jpg") screen.picture("fault-photo")
        }
        val nothing = Robolectric.buildActivity(ResultActivity::class.java, Intent(Intent.ACTION_SEND)).setup().get()
        nothing.awaitOutcome()
        assertTrue(nothing.shows(R.id.fault))
    }

    @Test
    fun aPhotosColourProfileIsSaid() {
        val screen = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("as-stored-p3.jpg")).setup().get()
        screen.awaitOutcome()
        assertTrue(screen.shows(R.id.result) && screen.shows(R.id.colours))
        assertEquals(screen.getString(R.string.colours_ignored, "'Display P3'"), screen.text(R.id.colours))
    }

    @Test
    fun turningTheDeviceMidInferenceLosesNothing() {
        val gate = CountDownLatch(1)
        val loads = AtomicInteger()
        Engine.source = { context, settings ->
            loads.incrementAndGet()
            gate.await()
            installedModel(context.assets, settings)
        }
        val result = Robolectric.buildActivity(ResultActivity::class.java, Screens.shared("photo.jpg")).setup()
        val before = result.get()
        assertTrue(before.shows(R.id.working))
        result.recreate()
        val after = result.get()
        assertNotSame(before, after)
        assertTrue(before.isDestroyed && after.shows(R.id.working))
        gate.countDown()
        after.awaitOutcome()
        assertTrue(after.shows(R.id.result))
        assertEquals("", before.text(R.id.headline)) // the closed screen is not updated
        assertEquals(1, loads.get())
        result.recreate() // the result exists: shown at once
        assertTrue(result.get().shows(R.id.result))
        assertEquals(after.text(R.id.headline), result.get().text(R.id.headline))
    }

    @Test
    fun aRefusedCameraIsSaidAndPhotosRemain() {
        val main = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        Screens.await("the buttons") { main.text(R.id.domain).isNotEmpty() }
        main.findViewById<View>(R.id.camera).performClick()
        val camera = arrayOf(Manifest.permission.CAMERA)
        main.onRequestPermissionsResult(2, camera, intArrayOf(PackageManager.PERMISSION_DENIED))
        assertEquals(main.getString(R.string.camera_refused), main.text(R.id.status))
        assertTrue(main.shows(R.id.status) && main.shows(R.id.system_settings) && main.shows(R.id.pick))
        main.picture("camera-refused")
    }

    @Test
    fun aBenchmarkForAComputerIsAnswered() {
        val card = ModelCard.parse(cardText)
        val folder = File(RuntimeEnvironment.getApplication().filesDir, "benchmark").apply { mkdirs() }
        val names = listOf("a.tflite", "b.tflite")
        for (name in names) File(folder, name).writeBytes(assets.open(card.file).use { it.readBytes() })
        val said = answered(names.joinToString(","), "1")
        assertEquals(setOf("request", "rows", "samples_ms", "versions"), said.keys)
        val samples = said["samples_ms"] as Map<*, *>
        assertEquals(setOf("litert a.tflite", "litert b.tflite"), samples.keys)
        for (blocks in samples.values) assertEquals(listOf(2, 2), (blocks as List<*>).map { (it as List<*>).size })
        File(System.getProperty("screens"), "host-${android.os.Build.VERSION.SDK_INT}.json").writeText(
            File(RuntimeEnvironment.getApplication().filesDir, "benchmark.json").readText(),
        )
    }

    @Test
    fun aBenchmarkThatCannotBeMadeSaysWhy() {
        for ((models, threads) in listOf("missing.tflite" to "1", "../card.json" to "1", "model.tflite" to "many", "" to "1")) {
            val said = answered(models, threads)
            assertEquals("abc", said["request"])
            assertTrue("$models: $said", (said["error"] as String).isNotEmpty())
        }
    }

    private fun answered(models: String, threads: String): Map<*, *> {
        val file = File(RuntimeEnvironment.getApplication().filesDir, "benchmark.json").apply { delete() }
        val asked = Intent().putExtra("request", "abc").putExtra("models", models).putExtra("threads", threads)
            .putExtra("warmup", 1).putExtra("block", 2).putExtra("blocks", 2).putExtra("min_seconds", 0).putExtra("seed", 7)
        val screen = Robolectric.buildActivity(BenchmarkActivity::class.java, asked).setup()
        Screens.await("the result") { file.exists() && !screen.get().shows(R.id.progress) }
        screen.pause().stop().destroy()
        return parseJson(file.readText()) as Map<*, *>
    }
}
