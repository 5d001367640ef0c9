package org.skinedge.demo

import android.os.Bundle
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.Switch
import android.widget.TextView
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard

/** The settings screen: runtime options and facts about the model. */
class SettingsActivity : Screen(), Outcome<ModelCard> {
    private val settings by lazy { Settings(this) }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.settings)
        val group = findViewById<RadioGroup>(R.id.threads)
        for (count in Settings.threadChoices()) group.addView(choice(count))
        group.check(settings.runtime.threads)
        group.setOnCheckedChangeListener { _, count -> settings.runtime = settings.runtime.copy(threads = count) }
        val xnnpack = findViewById<Switch>(R.id.xnnpack)
        xnnpack.isChecked = settings.runtime.xnnpack
        xnnpack.setOnCheckedChangeListener { _, on -> settings.runtime = settings.runtime.copy(xnnpack = on) }
        Engine.start(this) { it.card }.listener = this
    }

    /** The button's id is its number of threads. */
    private fun choice(count: Int) = RadioButton(this).apply {
        id = count
        text = resources.getQuantityString(R.plurals.threads, count, count)
        textSize = 16f
        minHeight = (48 * resources.displayMetrics.density).toInt()
    }

    override fun done(value: ModelCard) {
        val score = getString(R.string.model_threshold, words.decimal(value.flagFrom, 3))
        findViewById<TextView>(R.id.model).text = listOf(
            "${value.name} · ${value.architecture} · ${value.precision}",
            value.file,
            "sha256 ${value.sha256.take(16)}…",
            getString(R.string.model_classes, value.classes.joinToString { words.className(it.label) }),
            score,
            words.domain(value),
        ).joinToString("\n\n")
        findViewById<TextView>(R.id.origin).text =
            listOf(value.intendedUse, value.license, value.attribution).filter { it.isNotEmpty() }.joinToString("\n\n")
    }

    override fun failed(fault: FaultException) {
        findViewById<TextView>(R.id.model).text = words.of(fault)
    }
}
