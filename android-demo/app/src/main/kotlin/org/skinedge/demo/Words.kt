package org.skinedge.demo

import android.content.res.Resources
import java.text.NumberFormat
import org.skinedge.demo.core.AS_STORED
import org.skinedge.demo.core.Answer
import org.skinedge.demo.core.ClassScore
import org.skinedge.demo.core.ColourProfile
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.runtime.RuntimeSettings

/** The core's values as text in the user's language. */
class Words(private val resources: Resources) {
    private val locale = resources.configuration.locales[0]
    private val labels = resources.getStringArray(R.array.class_labels)
    private val names = resources.getStringArray(R.array.class_names)

    fun of(fault: FaultException): String = resources.getString(text(fault.fault), *fault.facts)

    /** share: 0..1. Returns whole percents; 0 and 100 only for exactly 0 and 1. */
    fun percent(share: Float): String {
        val whole = NumberFormat.getPercentInstance(locale)
        return when {
            share > 0 && share < 0.005f -> "< " + whole.format(0.01)
            share < 1 && share >= 0.995f -> "> " + whole.format(0.99)
            else -> whole.format(share)
        }
    }

    fun milliseconds(value: Double): String = resources.getString(R.string.milliseconds, decimal(value, 1))

    fun decimal(value: Double, digits: Int): String = NumberFormat.getNumberInstance(locale).run {
        minimumFractionDigits = digits
        maximumFractionDigits = digits
        format(value)
    }

    /** 'Melanoma (mel)' for a label that the app knows, else the label. */
    fun className(label: String): String {
        val known = labels.indexOf(label.lowercase())
        return if (known < 0) label else "${names[known]} ($label)"
    }

    /** The top class, or that none is likely enough. */
    fun headline(answer: Answer): String {
        val best = answer.top(1).single()
        if (answer.unsure()) return resources.getString(R.string.unsure)
        return resources.getString(R.string.headline, className(best.label), percent(best.probability))
    }

    /** The spoken text of one class. */
    fun spoken(score: ClassScore): String =
        resources.getString(R.string.class_spoken, className(score.label), percent(score.probability), group(score.group))

    /** The warning of a frame. ring: as `frameRing` returns it. */
    fun frame(ring: Int): String =
        resources.getString(R.string.frame, resources.getString(if (ring == 0) R.string.frame_outermost else R.string.frame_second))

    fun group(group: String): String = when (group) {
        "malignant" -> resources.getString(R.string.group_malignant)
        "premalignant" -> resources.getString(R.string.group_premalignant)
        else -> resources.getString(R.string.group_benign)
    }

    fun malignant(answer: Answer, card: ModelCard): String = resources.getString(
        if (answer.flagged) R.string.malignant_flagged else R.string.malignant_below,
        decimal(answer.malignantScore, 2), decimal(card.flagFrom, 2),
    )

    /** The model's image domain, with a note that a plain camera is outside of it. */
    fun domain(card: ModelCard): String = when {
        card.synthetic -> resources.getString(R.string.domain_synthetic)
        card.domain == "dermoscopic" -> resources.getString(R.string.domain_dermoscopic)
        else -> resources.getString(R.string.domain_other, card.domain)
    }

    /** The short form, for the camera's live picture. */
    fun cameraDomain(card: ModelCard): String =
        if (card.domain == "dermoscopic" && !card.synthetic) resources.getString(R.string.not_validated) else domain(card)

    /** What became of a photo's colour profile. */
    fun colours(profile: ColourProfile, card: ModelCard): String = when {
        card.colour == AS_STORED -> resources.getString(R.string.colours_ignored, profile.name)
        profile.problem != null -> resources.getString(R.string.colours_left, profile.name, profile.problem)
        else -> resources.getString(R.string.colours_converted, profile.name)
    }

    /** 'tflite 2.16.1 · 2 threads · XNNPACK'. */
    fun runtime(runtime: String, settings: RuntimeSettings): String = listOf(
        runtime,
        resources.getQuantityString(R.plurals.threads, settings.threads, settings.threads),
        resources.getString(if (settings.xnnpack) R.string.with_xnnpack else R.string.without_xnnpack),
    ).joinToString(" · ")

    private fun text(fault: Fault): Int = when (fault) {
        Fault.NO_MODEL -> R.string.fault_no_model
        Fault.CARD_UNREADABLE -> R.string.fault_card_unreadable
        Fault.CARD_SCHEMA -> R.string.fault_card_schema
        Fault.CARD_INCOMPLETE -> R.string.fault_card_incomplete
        Fault.MODEL_CHANGED -> R.string.fault_model_changed
        Fault.MODEL_UNREADABLE -> R.string.fault_model_unreadable
        Fault.INPUT_DIFFERS -> R.string.fault_input_differs
        Fault.OUTPUT_DIFFERS -> R.string.fault_output_differs
        Fault.LABELS_DIFFER -> R.string.fault_labels_differ
        Fault.INFERENCE_FAILED -> R.string.fault_inference_failed
        Fault.NO_NUMBERS -> R.string.fault_no_numbers
        Fault.PHOTO_UNREADABLE -> R.string.fault_photo_unreadable
        Fault.PHOTO_CUT_OFF -> R.string.fault_photo_cut_off
        Fault.PHOTO_STRIP -> R.string.fault_photo_strip
        Fault.PHOTO_PIXELS -> R.string.fault_photo_pixels
        Fault.PHOTO_16_BIT -> R.string.fault_photo_16_bit
        Fault.PHOTO_COLOURS -> R.string.fault_photo_colours
        Fault.PHOTO_TOO_LARGE -> R.string.fault_photo_too_large
    }
}
