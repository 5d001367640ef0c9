package org.skinedge.demo

import android.content.Context
import org.skinedge.demo.runtime.RuntimeSettings

/** What the user chose, kept by the system. */
class Settings(context: Context) {
    private val kept = context.getSharedPreferences("settings", Context.MODE_PRIVATE)

    var runtime: RuntimeSettings
        get() = RuntimeSettings(kept.getInt(THREADS, 2.coerceAtMost(cores())), kept.getBoolean(XNNPACK, true))
        set(value) = kept.edit().putInt(THREADS, value.threads).putBoolean(XNNPACK, value.xnnpack).apply()

    companion object {
        private const val THREADS = "threads"
        private const val XNNPACK = "xnnpack"

        fun cores(): Int = Runtime.getRuntime().availableProcessors()

        /** Numbers of threads to choose from: 1, 2, 4, 8 as far as there are cores. */
        fun threadChoices(): List<Int> = listOf(1, 2, 4, 8).filter { it <= cores() }
    }
}
