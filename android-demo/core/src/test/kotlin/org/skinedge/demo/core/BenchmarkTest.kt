package org.skinedge.demo.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class BenchmarkTest {

    /** Expected: numpy.quantile([3, 1, 4, 1, 5, 9, 2, 6], share). */
    @Test
    fun quantilesAreNumPys() {
        val samples = doubleArrayOf(3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0)
        for ((share, expected) in listOf(0.0 to 1.0, 0.25 to 1.75, 0.5 to 3.5, 0.9 to 6.9, 0.99 to 8.79, 1.0 to 9.0)) {
            assertEquals(expected, quantile(samples, share), 1e-12)
        }
        assertEquals(3.0, samples[0], 0.0)
        assertEquals(7.0, quantile(doubleArrayOf(7.0), 0.9), 0.0)
    }

    @Test
    fun the99thPercentileNeedsAThousandSamples() {
        assertNull(latency(List(9) { DoubleArray(111) { 1.0 } }).p99)
        val found = latency(List(10) { block -> DoubleArray(100) { (block * 100 + it).toDouble() } })
        assertEquals(989.01, found.p99!!, 1e-9)
        assertEquals(1000, found.n)
    }

    @Test
    fun noiseAndDriftAreSaid() {
        val quiet = List(6) { DoubleArray(5) { 10.0 } }
        assertEquals(emptyList<String>(), noiseReasons(quiet))
        val noisy = listOf(10.0, 13.0, 10.0, 13.0, 10.0, 13.0).map { doubleArrayOf(it) }
        assertTrue("noisy" in noiseReasons(noisy).first())
        val slower = listOf(10.0, 10.0, 10.4, 10.4, 11.2, 11.2).map { doubleArrayOf(it) }
        assertEquals(listOf("slowed down by 12% during the benchmark"), noiseReasons(slower))
    }

    /** A clock that advances by 2 ms per inference. */
    private class Clock {
        var now = 0L
        var inferences = 0
        fun infer() { inferences++; now += 2_000_000 }
    }

    @Test
    fun aProtocolIsFollowedToTheNumber() {
        val clock = Clock()
        val found = measure(Protocol.QUICK, { clock.now }, infer = clock::infer)!!
        assertEquals(10 + 6 * (2 + 20), clock.inferences)
        assertEquals(6, found.blocks.size)
        for (block in found.blocks) assertArrayEquals(DoubleArray(20) { 2.0 }, block, 0.0)
    }

    @Test
    fun aMinimumOfSecondsAddsBlocks() {
        val clock = Clock()
        val found = measure(Protocol.MLPERF, { clock.now }, infer = clock::infer)!!
        assertEquals(469, found.blocks.size)  // of 128 ms each, until 60 s have passed
    }

    @Test
    fun whatIsStoppedGivesNothing() {
        val clock = Clock()
        assertNull(measure(Protocol.QUICK, { clock.now }, { done, _ -> done < 3 }, clock::infer))
        assertEquals(10 + 3 * 22, clock.inferences)
    }
}
