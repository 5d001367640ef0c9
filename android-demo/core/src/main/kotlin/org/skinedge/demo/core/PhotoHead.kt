package org.skinedge.demo.core

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.IOException
import java.io.InputStream
import java.io.SequenceInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.DataFormatException
import java.util.zip.Inflater
import kotlin.math.max
import kotlin.math.min

/**
 * A photo's file without its colour profile, so that every version of Android decodes the stored values.
 *
 * kind: 'JPEG', 'PNG', 'WebP', 'GIF', 'BMP' or null; bits: per value of a PNG, else 8; profile: empty if damaged, null without
 * one; plain: the file without the profile.
 */
class PlainPhoto(val kind: String?, val bits: Int, val profile: ByteArray?, val plain: InputStream)

/** Reads a photo up to its pixels, as the web page's container.js. Throws IOException for a file that ends before them. */
fun withoutProfile(stream: InputStream): PlainPhoto {
    val buffered = stream.buffered()
    buffered.mark(SNIFFED)
    val start = ByteArray(SNIFFED).also { buffered.readUpTo(it) }
    buffered.reset()
    val input = DataInputStream(buffered)
    val head = ByteArrayOutputStream()
    val kind = when {
        start.begins("\u00ff\u00d8\u00ff") -> "JPEG"
        start.begins(PNG) -> "PNG"
        start.begins("RIFF") && start.begins("WEBP", 8) -> "WebP"
        start.begins("GIF8") -> "GIF"
        start.begins("BM") -> "BMP"
        else -> null
    }
    var bits = 8
    val profile = when (kind) {
        "JPEG" -> jpeg(input, head)
        "PNG" -> png(input, head) { bits = it }
        "WebP" -> webp(input, head)
        else -> null
    }
    return PlainPhoto(kind, bits, profile, SequenceInputStream(ByteArrayInputStream(head.toByteArray()), buffered))
}

/** Copies segments up to the first scan. A profile is spread over APP2 segments before the frame, which state their number. */
private fun jpeg(input: DataInputStream, head: ByteArrayOutputStream): ByteArray? {
    val pieces = ArrayList<ByteArray>()
    var framed = false
    head.write(input.exactly(2))
    while (true) {
        var byte = input.readUnsignedByte()
        while (byte != MARKER) byte = input.readUnsignedByte()
        while (byte == MARKER) byte = input.readUnsignedByte()
        if (byte == START_OF_SCAN || byte < 0x02 || byte in 0xD0..0xD9) {
            head.write(byteArrayOf(MARKER.toByte(), byte.toByte()))
            if (byte == START_OF_SCAN) return joined(pieces)
            continue
        }
        val length = input.readUnsignedShort()
        if (length < 2) throw IOException("a segment of $length bytes")
        val segment = input.exactly(length - 2)
        framed = framed || (byte in 0xC0..0xCF && byte !in NO_FRAMES)
        if (byte == APP2 && segment.begins(PROFILE)) {
            if (!framed) pieces += segment.copyOfRange(PROFILE.length, segment.size)
        } else {
            head.write(byteArrayOf(MARKER.toByte(), byte.toByte(), (length shr 8).toByte(), length.toByte()))
            head.write(segment)
        }
        head.refuseLong()
    }
}

private fun joined(pieces: List<ByteArray>): ByteArray? {
    if (pieces.isEmpty()) return null
    if (pieces.any { it.size < 2 }) return DAMAGED
    val ordered = pieces.sortedBy { it[0].toInt() and 255 }
    if (ordered[0][1].toInt() and 255 != ordered.size) return DAMAGED
    val whole = ByteArrayOutputStream()
    for (piece in ordered) whole.write(piece, 2, piece.size - 2)
    return whole.toByteArray()
}

/** Copies chunks up to the first pixels. */
private fun png(input: DataInputStream, head: ByteArrayOutputStream, depth: (Int) -> Unit): ByteArray? {
    var profile: ByteArray? = null
    head.write(input.exactly(PNG.length))
    while (true) {
        val start = input.exactly(8)
        val length = ByteBuffer.wrap(start).getInt(0)
        if (start.begins("IDAT", 4)) {
            head.write(start)
            return profile
        }
        val content = input.exactly(length)
        val sum = input.exactly(4)
        if (start.begins("IHDR", 4) && length > 8) depth(content[8].toInt())
        if (start.begins("iCCP", 4)) profile = inflated(content)
        if (PNG_COLOURS.none { start.begins(it, 4) }) {
            head.write(start)
            head.write(content)
            head.write(sum)
        }
        head.refuseLong()
    }
}

/** content: of an iCCP chunk: name, 0, method 0, compressed profile. Returns [DAMAGED] for a damaged one. */
private fun inflated(content: ByteArray): ByteArray {
    val start = content.indexOf(0) + 2
    val inflater = Inflater()
    val whole = ByteArrayOutputStream()
    val part = ByteArray(1 shl 14)
    try {
        inflater.setInput(content, min(start, content.size), max(0, content.size - start))
        while (!inflater.finished()) {
            val count = inflater.inflate(part)
            if (count == 0 && (inflater.needsInput() || inflater.needsDictionary())) return DAMAGED
            whole.write(part, 0, count)
            if (whole.size() > MAX_PROFILE) return DAMAGED
        }
    } catch (error: DataFormatException) {
        return DAMAGED
    } finally {
        inflater.end()
    }
    return whole.toByteArray()
}

/** Copies the chunks before the profile, which comes before the pixels, and clears its flag. */
private fun webp(input: DataInputStream, head: ByteArrayOutputStream): ByteArray? {
    val start = input.exactly(WEBP_START)
    head.write(start)
    if (!start.begins("VP8X", 12)) return null
    val flags = input.exactly(WEBP_FLAGS)
    head.write(flags)
    if (flags[0].toInt() and WEBP_PROFILE == 0) return null
    while (true) {
        val chunk = ByteArray(8)
        if (input.readUpTo(chunk) < chunk.size) return null
        val size = ByteBuffer.wrap(chunk).order(ByteOrder.LITTLE_ENDIAN).getInt(4)
        if (WEBP_PIXELS.any { chunk.begins(it) }) {
            head.write(chunk)
            return null
        }
        val content = input.exactly(size)
        val padding = input.exactly(size and 1)
        if (chunk.begins("ICCP")) {
            val bytes = head.toByteArray()
            bytes[WEBP_START] = (bytes[WEBP_START].toInt() and WEBP_PROFILE.inv()).toByte()
            val fields = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)
            fields.putInt(4, fields.getInt(4) - 8 - size - padding.size)
            head.reset()
            head.write(bytes)
            return content
        }
        head.write(chunk)
        head.write(content)
        head.write(padding)
        head.refuseLong()
    }
}

private fun DataInputStream.exactly(count: Int): ByteArray {
    if (count !in 0..MAX_HEAD) throw IOException("a header of $count bytes")
    return ByteArray(count).also { readFully(it) }
}

/** Fills the array as far as the stream goes; returns the number of bytes. */
private fun InputStream.readUpTo(bytes: ByteArray): Int {
    var count = 0
    while (count < bytes.size) {
        val more = read(bytes, count, bytes.size - count)
        if (more < 0) break
        count += more
    }
    return count
}

private fun ByteArray.begins(text: String, at: Int = 0): Boolean =
    size >= at + text.length && text.indices.all { this[at + it].toInt() and 255 == text[it].code }

private fun ByteArrayOutputStream.refuseLong() {
    if (size() > MAX_HEAD) throw IOException("a header of more than $MAX_HEAD bytes")
}

private val DAMAGED = ByteArray(0)
private const val SNIFFED = 12
private const val MAX_HEAD = 1 shl 24
private const val MAX_PROFILE = 1 shl 20
private const val MARKER = 0xFF
private const val APP2 = 0xE2
private const val START_OF_SCAN = 0xDA
private val NO_FRAMES = setOf(0xC4, 0xC8, 0xCC)
private const val PROFILE = "ICC_PROFILE\u0000"
private const val PNG = "\u0089PNG\r\n\u001a\n"
private val PNG_COLOURS = listOf("iCCP", "sRGB", "gAMA", "cHRM", "cICP") // that change how a system decodes
private const val WEBP_START = 20
private const val WEBP_FLAGS = 10
private const val WEBP_PROFILE = 0x20
private val WEBP_PIXELS = listOf("VP8 ", "VP8L", "ANMF")
