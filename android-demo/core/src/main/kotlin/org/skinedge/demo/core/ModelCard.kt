package org.skinedge.demo.core

/** A tensor as described by a card or an inference library. dtype: 'float32' or 'uint8'. */
data class Tensor(val name: String, val shape: List<Int>, val dtype: String) {
    override fun toString() = "$name $dtype$shape"
}

/** One class. group: 'malignant', 'premalignant' or 'benign'; prior: the frequency that the probabilities assume. */
data class ModelClass(val label: String, val group: String, val prior: Double)

/**
 * The content of `FILE.skinedge.json`, the card of a model file (skinedge/run/file_card.py).
 *
 * domain: of the training images, 'dermoscopic' or 'clinical'; size: side of the square input in pixels; colour: the rule
 * for photos with a colour profile, [SRGB] or [AS_STORED], which cards of earlier models do not state; black, white:
 * input values of the bytes 0 and 255; malignant: indices of the classes of the malignant score; melanoma: index, null
 * without one; flagFrom: decision threshold of the malignant score; fitted: true if the threshold was fitted on this
 * file.
 */
data class ModelCard(
    val file: String,
    val sha256: String,
    val sizeBytes: Long,
    val precision: String,
    val runId: String,
    val name: String,
    val architecture: String,
    val notice: String,
    val intendedUse: String,
    val domain: String,
    val synthetic: Boolean,
    val license: String,
    val attribution: String,
    val input: Tensor,
    val black: Float,
    val white: Float,
    val size: Int,
    val colour: String,
    val outputs: List<Tensor>,
    val classes: List<ModelClass>,
    val melanoma: Int?,
    val malignant: List<Int>,
    val flagFrom: Double,
    val fitted: Boolean,
) {
    val heatmap: Tensor? get() = outputs.find { it.name == HEATMAP }

    companion object {
        const val SCHEMA = "skinedge.file/1"
        const val SUFFIX = ".skinedge.json"
        const val PROBABILITIES = "probabilities"
        const val HEATMAP = "heatmap"

        /**
         * Reads a card. Throws [FaultException]: CARD_UNREADABLE, CARD_SCHEMA, or CARD_INCOMPLETE, which names the field.
         */
        fun parse(text: String): ModelCard {
            val root = try {
                parseJson(text) as? Map<*, *> ?: throw JsonException("expected an object")
            } catch (error: JsonException) {
                throw FaultException(Fault.CARD_UNREADABLE, error.message.orEmpty())
            }
            if (root["schema"] != SCHEMA) throw FaultException(Fault.CARD_SCHEMA, "${root["schema"]}", SCHEMA)
            return CardReader(root).card()
        }
    }
}

/** Reads the fields of a card from its JSON and checks that they are consistent. */
private class CardReader(root: Map<*, *>) {
    private val top = Fields(root, "")

    fun card(): ModelCard {
        val resize = top.fields("resize")
        val input = top.fields("input")
        val score = top.fields("malignant_score")
        val classes = top.list("classes").map { ModelClass(it.text("label"), it.text("group"), it.number("prior")) }
        val labels = classes.map { it.label }
        val size = resize.whole("size")
        top.demand(labels.size >= 2 && labels.toSet().size == labels.size, "classes")
        resize.demand(resize.text("resize") == "shorter-side-bilinear-antialias", "resize")
        resize.demand(resize.text("crop") == "centre", "crop")
        val colour = resize.textOrNull("colour") ?: AS_STORED
        resize.demand(colour == AS_STORED || colour == SRGB, "colour")
        input.demand(input.text("layout") == "NHWC" && input.text("colour") == "RGB", "layout")
        input.demand(input.tensor().shape == listOf(1, size, size, 3), "shape")
        input.demand(input.tensor().dtype in setOf("float32", "uint8"), "dtype")
        return ModelCard(
            file = top.text("file"),
            sha256 = top.text("sha256"),
            sizeBytes = top.whole("size_bytes").toLong(),
            precision = top.text("precision"),
            runId = top.text("run_id"),
            name = top.text("name"),
            architecture = top.text("architecture"),
            notice = top.text("notice"),
            intendedUse = top.text("intended_use"),
            domain = top.text("domain"),
            synthetic = top.truth("synthetic"),
            license = top.textOrNull("license").orEmpty(),
            attribution = top.textOrNull("attribution").orEmpty(),
            input = input.tensor(),
            black = input.number("black").toFloat(),
            white = input.number("white").toFloat(),
            size = size,
            colour = colour,
            outputs = outputs(labels.size),
            classes = classes,
            melanoma = top.textOrNull("melanoma")?.let { top.place(it, labels, "melanoma") },
            malignant = score.texts("sum_of").map { score.place(it, labels, "sum_of") },
            flagFrom = score.number("flag_from").also { score.demand(it >= 0, "flag_from") },
            fitted = score.truth("fitted_to_this_file"),
        )
    }

    private fun outputs(classes: Int): List<Tensor> {
        val found = top.list("outputs").map { it.tensor() }
        val said = found.find { it.name == ModelCard.PROBABILITIES }
        top.demand(said == Tensor(ModelCard.PROBABILITIES, listOf(1, classes), "float32"), "outputs")
        val map = found.find { it.name == ModelCard.HEATMAP } ?: return found
        top.demand(map.shape.size == 4 && map.shape[0] == 1 && map.shape[3] == classes, "outputs")
        top.demand(map.dtype == "float32" && map.shape.all { it > 0 }, "outputs")
        return found
    }
}

/** The fields of one JSON object; a missing field or a wrong type is a fault that names its path. */
private class Fields(private val found: Map<*, *>, private val path: String) {
    fun text(key: String): String = found[key] as? String ?: wrong(key)

    fun textOrNull(key: String): String? = found[key]?.let { it as? String ?: wrong(key) }

    fun truth(key: String): Boolean = found[key] as? Boolean ?: wrong(key)

    fun number(key: String): Double = found[key] as? Double ?: wrong(key)

    fun whole(key: String): Int = number(key).let { if (it % 1.0 == 0.0 && it in 1.0..MOST) it.toInt() else wrong(key) }

    fun fields(key: String) = Fields(found[key] as? Map<*, *> ?: wrong(key), "$path$key.")

    fun list(key: String): List<Fields> = items(key) { item, i -> Fields(item as? Map<*, *> ?: wrong(key), "$path$key[$i].") }

    fun texts(key: String): List<String> = items(key) { item, _ -> item as? String ?: wrong(key) }

    fun tensor() = Tensor(text("name"), items("shape") { side, _ -> (side as? Double)?.toInt() ?: wrong("shape") }, text("dtype"))

    fun place(label: String, labels: List<String>, key: String): Int = labels.indexOf(label).also { demand(it >= 0, key) }

    fun demand(sound: Boolean, key: String) {
        if (!sound) wrong(key)
    }

    private inline fun <T> items(key: String, read: (Any?, Int) -> T): List<T> =
        (found[key] as? List<*> ?: wrong(key)).mapIndexed { i, item -> read(item, i) }

    private fun wrong(key: String): Nothing =
        throw FaultException(Fault.CARD_INCOMPLETE, if (key in found) "$path$key is ${found[key]}" else "$path$key is missing")

    private companion object {
        const val MOST = Int.MAX_VALUE.toDouble()
    }
}
