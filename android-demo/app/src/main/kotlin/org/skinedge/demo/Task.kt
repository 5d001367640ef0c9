package org.skinedge.demo

import org.skinedge.demo.core.FaultException

/** The outcome of a task, delivered to its listener on the main thread. */
interface Outcome<in T> {
    fun done(value: T)
    fun failed(fault: FaultException)
}

/**
 * Work on the model's thread that survives a rotation: the rotated screen passes it to its successor.
 *
 * For the main thread. Holds no reference to a screen but its listener, which the screen removes when it closes.
 */
class Task<T> {
    private var told: ((Outcome<T>) -> Unit)? = null

    /** Called once with the outcome, immediately if there is one. */
    var listener: Outcome<T>? = null
        set(value) {
            field = value
            tell()
        }

    val finished: Boolean get() = told != null

    fun finish(outcome: (Outcome<T>) -> Unit) {
        told = outcome
        tell()
    }

    private fun tell() {
        val outcome = told ?: return
        listener?.let(outcome)
    }
}
