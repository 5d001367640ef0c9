package org.skinedge.demo

import android.content.Context
import android.content.Intent
import android.graphics.Bitmap
import android.net.Uri
import android.os.Bundle
import android.os.Parcelable
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.ImageView
import android.widget.Switch
import android.widget.TextView
import java.io.File
import org.skinedge.demo.core.CONFIDENT_FROM
import org.skinedge.demo.core.ClassScore
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.frameRing
import org.skinedge.demo.views.ScoreView
import org.skinedge.demo.views.picture

/** The result for one photo: chosen by the user, held from the camera, or shared by another app. */
class ResultActivity : Screen(), Outcome<Analysis> {
    private lateinit var task: Task<Analysis>
    private var chosen = -1 // the class whose evidence is shown; below 0: the top class

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.result)
        chosen = state?.getInt(CHOSEN) ?: -1
        task = kept() ?: start()
        task.listener = this
    }

    /** The task started by the previous screen before a rotation. */
    @Suppress("UNCHECKED_CAST")
    private fun kept() = lastNonConfigurationInstance as Task<Analysis>?

    private fun start(): Task<Analysis> {
        val photo = photo(intent)
        val photos = applicationContext.contentResolver
        return Engine.start(this) { analyse(it, photos, photo) }
    }

    override fun onRetainNonConfigurationInstance(): Any = task

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putInt(CHOSEN, chosen)
    }

    override fun onDestroy() {
        task.listener = null
        super.onDestroy()
    }

    override fun failed(fault: FaultException) {
        show(R.id.working, false)
        show(R.id.fault, true)
        findViewById<TextView>(R.id.fault_text).text = words.of(fault)
    }

    override fun done(value: Analysis) {
        show(R.id.working, false)
        show(R.id.result, true)
        val answer = value.answer
        findViewById<TextView>(R.id.domain).text = words.domain(value.card)
        findViewById<TextView>(R.id.headline).text = words.headline(answer)
        findViewById<TextView>(R.id.unsure).text = getString(R.string.unsure_why, words.percent(CONFIDENT_FROM))
        show(R.id.unsure, answer.unsure())
        findViewById<TextView>(R.id.malignant).text = words.malignant(answer, value.card)
        findViewById<ScoreView>(R.id.malignant_bar).show(answer.malignantScore.toFloat(), value.card.flagFrom.toFloat())
        findViewById<TextView>(R.id.runtime).text = technical(value)
        findViewById<TextView>(R.id.reduced).text = getString(R.string.reduced, value.reducedBy)
        show(R.id.reduced, value.reducedBy > 1)
        findViewById<TextView>(R.id.colours).text = value.profile?.let { words.colours(it, value.card) }
        show(R.id.colours, value.profile != null)
        showEvidence(value)
        val rows = findViewById<ViewGroup>(R.id.classes)
        rows.removeAllViews()
        for (score in answer.top(SHOWN)) rows.addView(row(rows, score, value))
    }

    private fun technical(found: Analysis) = getString(
        R.string.technical,
        words.milliseconds(found.prepareMs), words.milliseconds(found.inferMs),
        words.runtime(found.runtime, Settings(this).runtime), found.card.file,
    )

    private fun row(rows: ViewGroup, score: ClassScore, found: Analysis): View {
        val row = LayoutInflater.from(this).inflate(R.layout.class_row, rows, false)
        row.findViewById<TextView>(R.id.name).text = words.className(score.label)
        row.findViewById<TextView>(R.id.group).text = words.group(score.group)
        row.findViewById<TextView>(R.id.percent).text = words.percent(score.probability)
        row.findViewById<ScoreView>(R.id.bar).show(score.probability)
        row.contentDescription = words.spoken(score)
        if (found.card.heatmap != null) {
            row.setOnClickListener {
                chosen = score.index
                findViewById<Switch>(R.id.evidence_shown).isChecked = true
                showEvidence(found)
            }
        }
        return row
    }

    /** The picture, overlaid with the selected class's evidence if the switch is on. */
    private fun showEvidence(found: Analysis) {
        val index = if (chosen >= 0) chosen else found.answer.top(1).single().index
        val evidence = found.answer.heatmap(index)
        val photo = findViewById<ImageView>(R.id.photo)
        show(R.id.evidence_area, evidence != null)
        if (evidence == null) return photo.setImageBitmap(picture(found.image))
        val name = words.className(found.card.classes[index].label)
        val (plain, coloured) = picture(found.image) to picture(found.image, evidence)
        val switch = findViewById<Switch>(R.id.evidence_shown)
        fun draw() {
            photo.setImageBitmap(if (switch.isChecked) coloured else plain)
            photo.contentDescription =
                if (switch.isChecked) getString(R.string.photo_with_evidence, name) else getString(R.string.photo)
            show(R.id.legend, switch.isChecked)
        }
        findViewById<TextView>(R.id.evidence_of).text = getString(R.string.evidence_of, name)
        val ring = frameRing(evidence)
        findViewById<TextView>(R.id.frame).text = ring?.let(words::frame)
        show(R.id.frame, ring != null)
        switch.setOnCheckedChangeListener { _, _ -> draw() }
        draw()
    }

    companion object {
        private const val CHOSEN = "chosen"
        private const val SHOWN = 5

        fun of(context: Context, photo: Uri): Intent = Intent(context, ResultActivity::class.java).setData(photo)
            .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)

        /** Shared photos arrive as a stream, our own as data. */
        @Suppress("DEPRECATION") // its successor needs Android 13
        private fun photo(intent: Intent): Uri =
            intent.data ?: intent.getParcelableExtra<Parcelable>(Intent.EXTRA_STREAM) as? Uri ?: Uri.EMPTY
    }
}

/** Saves the model's input as a lossless file; preparing it again does not change it. */
fun Context.held(image: Prepared): Uri {
    val file = File(cacheDir, "held.png")
    file.outputStream().use { picture(image).compress(Bitmap.CompressFormat.PNG, 100, it) }
    return Uri.fromFile(file)
}
