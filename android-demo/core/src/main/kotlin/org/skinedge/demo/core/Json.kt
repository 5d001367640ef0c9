package org.skinedge.demo.core

/** Thrown for invalid JSON. message: the expected token and the position of the character. */
class JsonException(message: String) : Exception(message)

/**
 * Parses JSON (RFC 8259) to maps, lists, strings, doubles, booleans and null.
 *
 * Android's own reader accepts invalid JSON and is missing on a desktop, where the tests run; a model's card needs a
 * strict reader.
 *
 * Throws [JsonException], also for a duplicate key or more than 64 levels.
 */
fun parseJson(text: String): Any? = JsonReader(text).document()

/** Writes maps, lists, strings, numbers, booleans and null as JSON; NaN and infinities become null. */
fun toJson(value: Any?): String = buildString { write(value) }

private fun StringBuilder.write(value: Any?) {
    when (value) {
        null, is Boolean -> append(value)
        is Double -> if (value.isInfinite() || value.isNaN()) append("null") else append(value)
        is Number -> append(value)
        is String -> quote(value)
        is List<*> -> {
            append('[')
            value.forEachIndexed { i, item -> if (i > 0) append(", "); write(item) }
            append(']')
        }
        is Map<*, *> -> {
            append('{')
            value.entries.forEachIndexed { i, (key, item) ->
                if (i > 0) append(", ")
                quote(key as String)
                append(": ")
                write(item)
            }
            append('}')
        }
        else -> throw IllegalArgumentException("no JSON for ${value.javaClass}")
    }
}

private fun StringBuilder.quote(text: String) {
    append('"')
    for (char in text) when {
        char == '"' || char == '\\' -> append('\\').append(char)
        char < ' ' -> append("\\u%04x".format(char.code))
        else -> append(char)
    }
    append('"')
}

private class JsonReader(private val text: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        blanks()
        if (at < text.length) fail("the end")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > 64) fail("fewer levels")
        blanks()
        return when (peek()) {
            '{' -> map(depth)
            '[' -> list(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun map(depth: Int): Map<String, Any?> {
        val found = LinkedHashMap<String, Any?>()
        items('}') {
            blanks()
            if (peek() != '"') fail("a key")
            val key = string()
            if (key in found) fail("another key than '$key'")
            blanks()
            if (!take(':')) fail("':'")
            found[key] = value(depth + 1)
        }
        return found
    }

    private fun list(depth: Int): List<Any?> {
        val found = ArrayList<Any?>()
        items(']') { found.add(value(depth + 1)) }
        return found
    }

    private inline fun items(close: Char, one: () -> Unit) {
        at++
        blanks()
        if (take(close)) return
        do {
            one()
            blanks()
        } while (take(','))
        if (!take(close)) fail("',' or '$close'")
    }

    private fun string(): String {
        at++
        val found = StringBuilder()
        while (true) {
            val char = peek()
            if (char < ' ') fail("a closing quote")
            at++
            when (char) {
                '"' -> return found.toString()
                '\\' -> found.append(escaped())
                else -> found.append(char)
            }
        }
    }

    private fun escaped(): Char {
        val char = peek()
        at++
        return when (char) {
            '"', '\\', '/' -> char
            'b' -> '\b'
            'f' -> '\u000c'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = HEX.find(text, at)?.takeIf { it.range.first == at } ?: fail("four hex digits")
                at += 4
                digits.value.toInt(16).toChar()
            }
            else -> fail("an escape")
        }
    }

    private fun number(): Double {
        val found = NUMBER.find(text, at)?.takeIf { it.range.first == at } ?: fail("a value")
        at += found.value.length
        return found.value.toDouble()
    }

    private fun <T> word(word: String, value: T): T {
        if (!text.startsWith(word, at)) fail("a value")
        at += word.length
        return value
    }

    private fun blanks() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else END

    private fun take(char: Char): Boolean = (peek() == char).also { if (it) at++ }

    private fun fail(expected: String): Nothing = throw JsonException("expected $expected at character $at")

    private companion object {
        const val END = '\u0000'
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
        val HEX = Regex("[0-9a-fA-F]{4}")
    }
}
