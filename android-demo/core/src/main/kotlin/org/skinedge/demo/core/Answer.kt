package org.skinedge.demo.core

/** Below this, the likeliest class is less likely than all others together. */
const val CONFIDENT_FROM = 0.5f

/** One class and its probability. index: its place in the model's classes. */
data class ClassScore(val index: Int, val label: String, val group: String, val probability: Float)

/** What a model said of one photo. probabilities: of the card's classes, in their order; heatmaps: likewise, or none. */
class Answer(private val card: ModelCard, val probabilities: FloatArray, private val heatmaps: FloatArray?) {

    /** Sum of the probabilities of the classes that count as malignant, 0..1. */
    val malignantScore: Double get() = card.malignant.sumOf { probabilities[it].toDouble() }

    /** Whether the malignant score reaches the threshold that was fitted to the model. */
    val flagged: Boolean get() = malignantScore >= card.flagFrom

    /** Probability of melanoma; null where the model knows none. */
    val melanoma: Float? get() = card.melanoma?.let { probabilities[it] }

    /** The `count` likeliest classes, the likeliest first; of equally likely ones, the first in the card's order. */
    fun top(count: Int): List<ClassScore> = probabilities.indices
        .sortedByDescending { probabilities[it] }
        .take(count)
        .map { ClassScore(it, card.classes[it].label, card.classes[it].group, probabilities[it]) }

    /** Whether no class is likely enough to be named. confidence: what the likeliest must reach, 0..1. */
    fun unsure(confidence: Float = CONFIDENT_FROM): Boolean = top(1).single().probability < confidence

    /** Where the evidence for a class is; null for a model without heatmap. index: of the class. */
    fun heatmap(index: Int): Heatmap? {
        val (_, height, width, classes) = card.heatmap?.shape ?: return null
        val values = heatmaps ?: return null
        return Heatmap(height, width, FloatArray(height * width) { values[it * classes + index] })
    }
}
