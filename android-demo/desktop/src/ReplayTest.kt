import kotlin.math.abs
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.skinedge.demo.core.Answer
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.overlay
import org.skinedge.demo.core.prepare
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork

/** Compares the app's own classes with Android's own TFLite library to Python's results on the same images. */
class ReplayTest {

    /** All int8 results are equal bit for bit; the final softmax is in float and differs between the libraries. */
    @Test
    fun everyGoldenImageGivesPythonsAnswer() {
        val said = answers(RuntimeSettings(threads = 1, xnnpack = true))
        assertEquals(64, said.size)
        said.forEachIndexed { i, answer ->
            assertArrayEquals("probabilities of image $i", Oracle.probabilities[i], answer.probabilities, LAST_BITS)
            for (index in answer.probabilities.indices) {
                val expected = Oracle.heatmaps[i].filterIndexed { at, _ -> at % answer.probabilities.size == index }
                val found = answer.heatmap(index)!!.values
                assertArrayEquals("heatmap $index of image $i", expected.toFloatArray(), found, 0f)
            }
        }
    }

    @Test
    fun moreThreadsGiveTheSameAnswers() {
        answers(RuntimeSettings(threads = 2, xnnpack = true)).forEachIndexed { i, answer ->
            assertArrayEquals(Oracle.probabilities[i], answer.probabilities, LAST_BITS)
        }
    }

    /** TFLite's own kernels round differently, and are slow on x86. */
    @Test
    fun withoutXnnpackTheAnswersStayClose() {
        val differences = answers(RuntimeSettings(threads = 1, xnnpack = false), count = 8).mapIndexed { i, answer ->
            answer.probabilities.indices.maxOf { abs(answer.probabilities[it] - Oracle.probabilities[i][it]) }
        }
        println("without XNNPACK: largest difference of a probability ${differences.max()}, mean ${differences.average()}")
        assertTrue("largest ${differences.max()}", differences.max() < 0.1)
    }

    @Test
    fun photosArePreparedAsPillowDoes() {
        assertTrue(Oracle.photos.size >= 40)
        Oracle.photos.forEachIndexed { i, photo ->
            assertArrayEquals(
                "photo $i, ${photo.width} x ${photo.height}", Oracle.prepared[i].rgb, prepare(photo, Oracle.size).rgb,
            )
        }
    }

    @Test
    fun overlaysAreAsPythonDrawsThem() {
        answers(RuntimeSettings(threads = 1, xnnpack = true)).forEachIndexed { i, answer ->
            val drawn = overlay(Oracle.images[i], answer.heatmap(answer.top(1).single().index)!!)
            val expected = Oracle.overlays[i].rgb
            drawn.forEachIndexed { at, colour ->
                for (channel in 0..2) {
                    val found = colour shr (16 - 8 * channel) and 255
                    val wanted = expected[3 * at + channel].toInt() and 255
                    assertTrue("overlay $i, pixel $at: $found, not $wanted", abs(found - wanted) <= 1)
                }
            }
        }
    }

    private fun answers(settings: RuntimeSettings, count: Int = Oracle.images.size): List<Answer> =
        Classifier.open(Oracle.card, Oracle.model()) { TfliteNetwork(it, settings) }.use { classifier ->
            Oracle.images.take(count).map { classifier.classify(it) }
        }

    private companion object {
        const val LAST_BITS = 1e-6f
    }
}
