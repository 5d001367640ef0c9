import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork
import java.nio.ByteBuffer
import java.security.MessageDigest

/** Models and cards that must be refused, with the real inference library. */
class TrustTest {

    @Test
    fun aChangedModelIsRefused() {
        val model = Oracle.model()
        model.put(model.capacity() / 2, (model.get(model.capacity() / 2) + 1).toByte())
        assertEquals(Oracle.card.file, refused(Fault.MODEL_CHANGED, Oracle.card, model).facts[0])
    }

    @Test
    fun aTruncatedModelIsRefusedAndNeverRun() {
        val whole = ByteArray(Oracle.model().capacity()).also { Oracle.model().get(it) }
        for (length in listOf(0, 1, 100, whole.size / 2)) {
            val part = Oracle.direct(whole.copyOf(length))
            refused(Fault.MODEL_CHANGED, Oracle.card, part)
            refused(Fault.MODEL_UNREADABLE, Oracle.card.copy(sha256 = sha256(part)), part)
        }
    }

    @Test
    fun whatIsNoModelIsRefused() {
        val text = Oracle.direct("This is a letter, and no model.".toByteArray())
        refused(Fault.MODEL_UNREADABLE, Oracle.card.copy(sha256 = sha256(text)), text)
    }

    @Test
    fun aCardOfOtherTensorsIsRefused() {
        val card = Oracle.card
        val larger = card.input.copy(shape = listOf(1, 256, 256, 3))
        refused(Fault.INPUT_DIFFERS, card.copy(input = larger, size = 256))
        refused(Fault.INPUT_DIFFERS, card.copy(input = card.input.copy(dtype = "uint8")))
        refused(Fault.OUTPUT_DIFFERS, card.copy(outputs = card.outputs.filter { it.name == ModelCard.PROBABILITIES }))
        val fault = refused(Fault.LABELS_DIFFER, card.copy(classes = card.classes.drop(1)))
        assertEquals(listOf("7", "6"), fault.facts.toList())
    }

    @Test
    fun theShippedCardIsRead() {
        val card = Oracle.card
        assertEquals(listOf("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"), card.classes.map { it.label })
        assertEquals(listOf(0, 1, 4), card.malignant)
        assertEquals(4, card.melanoma)
        assertEquals("dermoscopic", card.domain)
        assertTrue(card.flagFrom in 0.01..0.99 && card.fitted)
        assertEquals(224, card.size)
    }

    private fun refused(fault: Fault, card: ModelCard, model: ByteBuffer = Oracle.model()): FaultException {
        val thrown = assertThrows(FaultException::class.java) {
            Classifier.open(card, model) { TfliteNetwork(it, RuntimeSettings(threads = 1, xnnpack = true)) }
        }
        assertEquals(thrown.message, fault, thrown.fault)
        return thrown
    }

    private fun sha256(content: ByteBuffer): String {
        val digest = MessageDigest.getInstance("SHA-256")
        digest.update(content.duplicate())
        return digest.digest().joinToString("") { "%02x".format(it) }
    }
}
