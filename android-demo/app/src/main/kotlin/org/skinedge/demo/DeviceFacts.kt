package org.skinedge.demo

import android.content.Context
import android.os.BatteryManager
import android.os.Build
import java.io.File
import java.io.IOException
import org.skinedge.demo.core.Conditions
import org.skinedge.demo.core.Device

/** This device, as far as the system describes it to apps. */
fun device(): Device = Device(
    machine = "${Build.MANUFACTURER} ${Build.MODEL}",
    cpu = chip(),
    system = "Android ${Build.VERSION.RELEASE}, ${System.getProperty("os.arch")}",
    features = field("/proc/cpuinfo", "Features").orEmpty().split(' ').filter { it.isNotEmpty() },
    cores = Settings.cores(),
    governor = text("$CLOCK/scaling_governor")?.trim(),
    maxFrequencyMhz = megahertz("cpuinfo_max_freq"),
)

/** The current state of this device. */
fun Context.conditions(): Conditions {
    val charging = getSystemService(BatteryManager::class.java)?.isCharging
    val power = charging?.let { if (it) "mains" else "battery" }
    return Conditions(power = power, frequencyMhz = megahertz("scaling_cur_freq"))
}

/** The peak resident memory of this process. */
fun peakRssMib(): Double? = field("/proc/self/status", "VmHWM")?.substringBefore(' ')?.toDoubleOrNull()?.div(1024)

private const val CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq"

private fun megahertz(name: String): Double? = text("$CLOCK/$name")?.trim()?.toDoubleOrNull()?.div(1000)

private fun field(path: String, name: String): String? =
    text(path)?.lineSequence()?.firstOrNull { it.startsWith(name) }?.substringAfter(':')?.trim()

/** The content of a system file, null if apps may not read it. */
private fun text(path: String): String? = try {
    File(path).readText()
} catch (error: IOException) {
    null
}
