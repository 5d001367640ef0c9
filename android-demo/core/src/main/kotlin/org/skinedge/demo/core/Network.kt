package org.skinedge.demo.core

import java.nio.ByteBuffer

/** A loaded model, whatever library runs it. For one thread at a time. */
interface Network : AutoCloseable {
    /** The library and its version, as screens and benchmarks name it. */
    val runtime: String
    val version: String
    val input: Tensor
    val outputs: List<Tensor>

    /** One inference. input: in native order, from position 0; returns the values of each output, by its name. */
    fun run(input: ByteBuffer): Map<String, FloatArray>
}
