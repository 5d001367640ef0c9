package org.skinedge.demo

import android.content.Context
import org.skinedge.demo.runtime.RuntimeSettings

/** The user's settings, stored by the system. */
class Settings(context: Context) {
    private val kept = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    var runtime: RuntimeSettings
        get() = RuntimeSettings(kept.getInt(THREADS, 2.coerceAtMost(cores())), kept.getBoolean(XNNPACK, true))
        set(value) = kept.edit().putInt(THREADS, value.threads).putBoolean(XNNPACK, value.xnnpack).apply()

    companion object {
        private const val THREADS = "threads"
        private const val XNNPACK = "xnnpack"

        fun cores(): Int = Runtime.getRuntime().availableProcessors()

        /** Selectable numbers of threads: 1, 2, 4, 8, up to the number of cores. */
        fun threadChoices(): List<Int> = listOf(1, 2, 4, 8).filter { it <= cores() }
    }
}
