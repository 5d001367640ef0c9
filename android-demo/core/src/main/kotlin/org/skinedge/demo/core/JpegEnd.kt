package org.skinedge.demo.core

import java.io.InputStream

/**
 * Returns true for a truncated JPEG file: Android's decoder fills missing data with grey, without an error.
 *
 * Walks from marker to marker (ITU-T T.81, annex B) up to End Of Image. Returns false for other formats, whose
 * decoders refuse truncated files. The stream should be buffered.
 */
fun endsEarly(stream: InputStream): Boolean {
    if (stream.read() != MARKER || stream.read() != START_OF_IMAGE) return false
    while (true) {
        when (val code = nextMarker(stream)) {
            null -> return true
            END_OF_IMAGE -> return false
            else -> if (code !in STANDALONE && !skipSegment(stream)) return true
        }
    }
}

/** The code of the next marker after any coded data; null at the end of the file. */
private fun nextMarker(stream: InputStream): Int? {
    while (true) {
        var byte = stream.read()
        if (byte < 0) return null
        if (byte != MARKER) continue
        while (byte == MARKER) byte = stream.read() // fill bytes
        if (byte < 0) return null
        if (byte != STUFFED) return byte
    }
}

/** Returns true if the next segment, which starts with its length, is complete. */
private fun skipSegment(stream: InputStream): Boolean {
    val high = stream.read()
    val low = stream.read()
    if (high < 0 || low < 0) return false
    repeat((high shl 8 or low) - 2) { if (stream.read() < 0) return false }
    return true
}

private const val MARKER = 0xFF
private const val STUFFED = 0x00
private const val START_OF_IMAGE = 0xD8
private const val END_OF_IMAGE = 0xD9
private val STANDALONE = setOf(0x01) + (0xD0..0xD8)
