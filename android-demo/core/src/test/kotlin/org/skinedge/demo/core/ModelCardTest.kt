package org.skinedge.demo.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class ModelCardTest {

    @Test
    fun aSoundCardIsRead() {
        val card = ModelCard.parse(toJson(soundCard()))
        assertEquals(listOf("mel", "nv"), card.classes.map { it.label })
        assertEquals(listOf(0), card.malignant)
        assertEquals(0, card.melanoma)
        assertEquals(Tensor("pixels", listOf(1, 32, 32, 3), "float32"), card.input)
        assertEquals(listOf(1, 4, 4, 2), card.heatmap!!.shape)
        assertEquals(0.25, card.flagFrom, 0.0)
        assertEquals("", ModelCard.parse(toJson(soundCard() + ("license" to null))).license)
        assertNull(ModelCard.parse(toJson(soundCard() + ("melanoma" to null))).melanoma)
    }

    @Test
    fun whatIsNoCardIsRefused() {
        for (text in listOf("", "[]", "null", "{", "<html>")) assertEquals(Fault.CARD_UNREADABLE, refused(text).fault)
        for (text in listOf("{}", "{\"schema\": \"skinedge.file/2\"}", "{\"schema\": 1}")) {
            assertEquals(Fault.CARD_SCHEMA, refused(text).fault)
        }
    }

    /** Removes each field, and gives it another type; the message names the field. */
    @Test
    fun everyFieldIsNeededAndChecked() {
        val optional = setOf("license", "attribution", "melanoma")
        for (path in paths(soundCard())) {
            if (path.first() == "schema") continue
            val name = path.last { it is String } as String
            if (name !in optional) assertTrue(name, name in refused(toJson(without(soundCard(), path))).facts[0])
            assertTrue(name, name in refused(toJson(without(soundCard(), path, listOf(false)))).facts[0])
        }
    }

    @Test
    fun whatContradictsItselfIsRefused() {
        fun card(vararg changes: Pair<String, Any?>) = toJson(soundCard() + changes)
        val one = mapOf("label" to "mel", "group" to "malignant", "prior" to 0.5)
        val score = mapOf("sum_of" to listOf("mel"), "flag_from" to -0.1, "fitted_to_this_file" to true)
        val contradictions = listOf(
            card("classes" to listOf(one)), card("classes" to listOf(one, one)), card("classes" to emptyList<Any>()),
            card("melanoma" to "bcc"), card("malignant_score" to score), card("outputs" to emptyList<Any>()),
            card("malignant_score" to score + mapOf("flag_from" to 0.1, "sum_of" to listOf("bcc"))),
            card("outputs" to listOf(output("probabilities", 1, 3))), card("size_bytes" to 0.5),
            card("outputs" to listOf(output("probabilities", 1, 2), output("heatmap", 1, 4, 4, 3))),
            card("outputs" to listOf(output("probabilities", 1, 2), output("heatmap", 1, 0, 4, 2))),
            card("resize" to mapOf("size" to 64, "resize" to "shorter-side-bilinear-antialias", "crop" to "centre")),
            card("resize" to mapOf("size" to 32, "resize" to "nearest", "crop" to "centre")),
            card("resize" to mapOf("size" to 32, "resize" to "shorter-side-bilinear-antialias", "crop" to "left")),
            card("resize" to mapOf("size" to 3e9, "resize" to "shorter-side-bilinear-antialias", "crop" to "centre")),
        )
        for (text in contradictions) assertEquals(Fault.CARD_INCOMPLETE, refused(text).fault)
    }

    @Test
    fun theColourRuleIsReadAndEarlierCardsHaveNone() {
        val resize = soundCard()["resize"] as Map<*, *>
        assertEquals(AS_STORED, ModelCard.parse(toJson(soundCard())).colour)
        for (rule in listOf(AS_STORED, SRGB)) {
            assertEquals(rule, ModelCard.parse(toJson(soundCard() + ("resize" to resize + ("colour" to rule)))).colour)
        }
        for (rule in listOf("linear", "", 1)) {
            val text = toJson(soundCard() + ("resize" to resize + ("colour" to rule)))
            assertTrue("resize.colour" in refused(text).facts[0])
        }
    }

    private fun refused(text: String): FaultException =
        assertThrows(text, FaultException::class.java) { ModelCard.parse(text) }

    /** The paths of all leaves. */
    private fun paths(value: Any?): List<List<Any>> = when (value) {
        is Map<*, *> -> value.entries.flatMap { (key, item) -> paths(item).map { listOf<Any>(key!!) + it } }
        is List<*> -> if (value.all { it is Map<*, *> }) value.indices.flatMap { i -> paths(value[i]).map { listOf<Any>(i) + it } } else listOf(emptyList())
        else -> listOf(emptyList())
    }

    /** The value without the leaf, or with a replacement. */
    private fun without(value: Any?, path: List<Any>, instead: Any? = Unit): Any? {
        if (path.isEmpty()) return instead
        val (first, rest) = path.first() to path.drop(1)
        return when (value) {
            is Map<*, *> -> if (rest.isEmpty() && instead == Unit) value - first else value + (first to without(value[first], rest, instead))
            else -> (value as List<*>).mapIndexed { i, item -> if (i == first) without(item, rest, instead) else item }
        }
    }
}

fun output(name: String, vararg shape: Int) = mapOf("name" to name, "shape" to shape.toList(), "dtype" to "float32")

/** A card with two classes and an input of 32 pixels. */
fun soundCard(): Map<String, Any?> = mapOf(
    "schema" to "skinedge.file/1",
    "file" to "model.int8.heatmap.tflite",
    "sha256" to "0".repeat(64),
    "size_bytes" to 1000,
    "precision" to "int8",
    "run_id" to "run",
    "name" to "tiny",
    "architecture" to "test",
    "notice" to "Research tool, not a medical device.",
    "intended_use" to "Tests.",
    "domain" to "dermoscopic",
    "synthetic" to true,
    "license" to "CC0-1.0",
    "attribution" to "nobody",
    "input" to mapOf(
        "name" to "pixels", "shape" to listOf(1, 32, 32, 3), "dtype" to "float32", "layout" to "NHWC", "colour" to "RGB",
        "black" to -1.0, "white" to 1.0,
    ),
    "resize" to mapOf("size" to 32, "resize" to "shorter-side-bilinear-antialias", "crop" to "centre"),
    "outputs" to listOf(output("heatmap", 1, 4, 4, 2), output("probabilities", 1, 2)),
    "classes" to listOf(
        mapOf("label" to "mel", "group" to "malignant", "prior" to 0.5),
        mapOf("label" to "nv", "group" to "benign", "prior" to 0.5),
    ),
    "melanoma" to "mel",
    "malignant_score" to mapOf("sum_of" to listOf("mel"), "flag_from" to 0.25, "fitted_to_this_file" to true),
)
