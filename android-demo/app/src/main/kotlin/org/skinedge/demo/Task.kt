package org.skinedge.demo

import org.skinedge.demo.core.FaultException

/** What the listener of a task is told, on the main thread. */
interface Outcome<in T> {
    fun done(value: T)
    fun failed(fault: FaultException)
}

/**
 * Work on the model's thread that outlives the screen which asked for it: a screen that is turned hands it to the next.
 *
 * For the main thread. Holds nothing of a screen but its listener, which a screen takes away when it goes.
 */
class Task<T> {
    private var told: ((Outcome<T>) -> Unit)? = null

    /** Told once there is an outcome, which may be at once. */
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
