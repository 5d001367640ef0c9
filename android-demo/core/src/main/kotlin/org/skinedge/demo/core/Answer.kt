package org.skinedge.demo.core

/** Below this, the top class is less likely than all others together. */
const val CONFIDENT_FROM = 0.5f

/** One class and its probability. index: its position in the model's classes. */
data class ClassScore(val index: Int, val label: String, val group: String, val probability: Float)

/** A model's result for one photo. probabilities: of the card's classes, in their order; heatmaps: likewise, or none. */
class Answer(private val card: ModelCard, val probabilities: FloatArray, private val heatmaps: FloatArray?) {

    /** The malignant score: sum of the probabilities of the malignant and premalignant classes, 0..1. */
    val malignantScore: Double get() = card.malignant.sumOf { probabilities[it].toDouble() }

    /** True if the malignant score reaches the model's decision threshold. */
    val flagged: Boolean get() = malignantScore >= card.flagFrom

    /** Probability of melanoma; null for a model without that class. */
    val melanoma: Float? get() = card.melanoma?.let { probabilities[it] }

    /** The `count` most likely classes, in descending order; ties in the card's order. */
    fun top(count: Int): List<ClassScore> = probabilities.indices
        .sortedByDescending { probabilities[it] }
        .take(count)
        .map { ClassScore(it, card.classes[it].label, card.classes[it].group, probabilities[it]) }

    /** True if no class is likely enough. confidence: minimum probability of the top class, 0..1. */
    fun unsure(confidence: Float = CONFIDENT_FROM): Boolean = top(1).single().probability < confidence

    /** The heatmap of a class; null for a model without heatmaps. index: of the class. */
    fun heatmap(index: Int): Heatmap? {
        val (_, height, width, classes) = card.heatmap?.shape ?: return null
        val values = heatmaps ?: return null
        return Heatmap(height, width, FloatArray(height * width) { values[it * classes + index] })
    }
}
