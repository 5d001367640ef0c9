import java.io.File
import org.junit.Assert.assertEquals
import org.junit.Test
import org.skinedge.demo.core.BenchReport
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Conditions
import org.skinedge.demo.core.Device
import org.skinedge.demo.core.Loading
import org.skinedge.demo.core.Protocol
import org.skinedge.demo.core.measure
import org.skinedge.demo.core.milliseconds
import org.skinedge.demo.core.parseJson
import org.skinedge.demo.core.toJson
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork

/** A real benchmark of the shipped model; tests/android/test_desktop.py compares its JSON with `skinedge bench`. */
class BenchTest {

    @Test
    fun aBenchmarkWritesItsReport() {
        lateinit var classifier: Classifier
        val load = milliseconds {
            classifier = Classifier.open(Oracle.card, Oracle.model()) { TfliteNetwork(it, RuntimeSettings(1, true)) }
        }
        val loading = Loading(load, milliseconds { classifier.run(Oracle.images[0]) })
        var next = 0
        val measured = measure(Protocol.QUICK) { classifier.run(Oracle.images[next++ % Oracle.images.size]) }!!
        val device = Device("desktop", "x86_64", System.getProperty("os.name"), emptyList(), 1)
        val report = BenchReport(
            classifier.card, classifier.network, 1, device, Conditions(), Conditions(), loading, measured, "2026-01-01T00:00:00",
        )
        val text = toJson(report.document())
        assertEquals(Oracle.card.sha256, (parseJson(text) as Map<*, *>)["model_sha256"])
        File(System.getProperty("oracle"), "bench.json").writeText(text)
        classifier.close()
    }
}
