package org.skinedge.demo.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class JsonTest {

    @Test
    fun everyKindOfValueIsRead() {
        val text = """ {"a": [1, -2.5e3, true, false, null, "é\n\"\u00e9\/"], "b": {}, "c": []} """
        val expected = mapOf("a" to listOf(1.0, -2500.0, true, false, null, "é\n\"é/"), "b" to emptyMap<String, Any>(), "c" to emptyList<Any>())
        assertEquals(expected, parseJson(text))
    }

    @Test
    fun whatIsWrittenIsReadBack() {
        val value = mapOf("text" to "line\nquote\" back\\ tab\t é 漢", "list" to listOf(1.0, 0.1, 1e-9, null, true), "nested" to mapOf("x" to emptyList<Any>()))
        assertEquals(value, parseJson(toJson(value)))
    }

    @Test
    fun numbersThatJsonCannotHoldBecomeNull() {
        assertEquals("[null, null, 3]", toJson(listOf(Double.NaN, Double.POSITIVE_INFINITY, 3)))
    }

    @Test
    fun whatIsNoJsonIsRefused() {
        val broken = listOf(
            "", "{", "[1, ]", "[1 2]", "{\"a\" 1}", "{a: 1}", "{\"a\": 1,}", "{\"a\": 1, \"a\": 2}", "tru", "nul", "01", "1.", ".5", "+1",
            "NaN", "'a'", "\"a", "\"a\nb\"", "\"\\x\"", "\"\\u12\"", "1 2", "[1] x", "{\"a\": 1} }", "[".repeat(100_000),
        )
        for (text in broken) assertThrows(text.take(20), JsonException::class.java) { parseJson(text) }
    }
}
