package org.skinedge.demo.core

import java.nio.ByteBuffer

/** A model loaded in an inference library. For one thread at a time. */
interface Network : AutoCloseable {
    /** The library and its version, for screens and benchmarks. */
    val runtime: String
    val version: String
    val input: Tensor
    val outputs: List<Tensor>

    /** Runs one inference. input: in native order, from position 0. Returns output name -> values. */
    fun run(input: ByteBuffer): Map<String, FloatArray>
}
