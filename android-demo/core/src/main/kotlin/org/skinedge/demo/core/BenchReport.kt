package org.skinedge.demo.core

/**
 * The device of a benchmark, with the fields of skinedge_bench/device.py; null if the system does not provide one.
 *
 * features: instruction sets, with Linux's names.
 */
data class Device(
    val machine: String,
    val cpu: String,
    val system: String,
    val features: List<String>,
    val cores: Int,
    val governor: String? = null,
    val maxFrequencyMhz: Double? = null,
) {
    /** True if the CPU has an int8 dot product; null if its features are unknown. */
    val int8DotProduct: Boolean? get() = if (features.isEmpty()) null else features.any { it in DOT_PRODUCT }

    private companion object {
        val DOT_PRODUCT = setOf("asimddp", "i8mm", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
    }
}

/** The device's state at one moment. power: 'mains' or 'battery'; null if unknown. */
data class Conditions(val power: String? = null, val temperatureC: Double? = null, val frequencyMhz: Double? = null)

/** Times of loading. loadMs: open the file and prepare its tensors; firstMs: the first inference, before any warm-up. */
data class Loading(val loadMs: Double, val firstMs: Double, val peakRssMib: Double? = null)

/** Results of one model's benchmark. threads: of the runtime; measuredAt: UTC, ISO 8601; doubts: about the device. */
class BenchReport(
    private val card: ModelCard,
    private val network: Network,
    private val threads: Int,
    private val device: Device,
    private val before: Conditions,
    private val after: Conditions,
    private val loading: Loading,
    private val measured: Measurement,
    private val measuredAt: String,
    private val doubts: List<String> = emptyList(),
) {
    val latency: Latency = latency(measured.blocks)

    /** Reasons why the timings are not trustworthy; empty if they are. */
    val reasons: List<String> = battery() + doubts + noiseReasons(measured.blocks)

    /** The document of `skinedge bench --json` (schema 'skinedge.bench/1') with one row and the raw samples. */
    fun document(): Map<String, Any?> = mapOf(
        "schema" to "skinedge.bench/1",
        "model_id" to card.runId,
        "model_sha256" to card.sha256,
        "measured_at" to measuredAt,
        "host" to null,
        "device" to device.document(),
        "conditions" to mapOf("before" to before.document(), "after" to after.document()),
        "foreign_cpu" to null,
        "test_images" to null,
        "peaks" to null,
        "floor_method" to null,
        "photos" to null,
        "protocol" to measured.protocol.document(),
        "seed" to 0,
        "rows" to listOf(row()),
        "recommendation" to mapOf("file" to null, "runtime" to null, "threads" to null, "reasons" to emptyList<String>()),
        "remarks" to emptyList<String>(),
        "samples_ms" to mapOf(samplesKey() to measured.blocks.map { it.toList() }),
    )

    private fun battery() = if ("battery" in listOf(before.power, after.power)) listOf("on battery") else emptyList()

    private fun samplesKey() = "${network.runtime} ${card.file}" + if (threads > 1) ", $threads threads" else ""

    private fun row(): Map<String, Any?> = mapOf(
        "file" to card.file,
        "runtime" to network.runtime,
        "precision" to card.precision,
        "threads" to threads,
        "size_bytes" to card.sizeBytes,
        "sha256" to card.sha256,
        "p50_ms" to latency.p50,
        "p50_interval_ms" to latency.p50Interval,
        "p90_ms" to latency.p90,
        "p99_ms" to latency.p99,
        "load_ms" to loading.loadMs,
        "first_inference_ms" to loading.firstMs,
        "peak_rss_mib" to loading.peakRssMib,
        "n" to latency.n,
        "ratio_to_fp32" to null,
        "ratio_to_fp32_interval" to null,
        "ratio_to_eager" to null,
        "ratio_to_eager_interval" to null,
        "balanced_accuracy" to null,
        "accuracy_note" to "a file alone: no images to judge",
        "golden" to null,
        "parity" to null,
        "partitions" to null,
        "outside" to null,
        "in_run" to false,
        "block_medians_ms" to measured.blocks.map { quantile(it, 0.5) },
        "floor" to null,
        "end_to_end" to null,
        "trustworthy" to reasons.isEmpty(),
        "reasons" to reasons,
    )

    private fun Device.document() = mapOf(
        "machine" to machine,
        "cpu" to cpu,
        "system" to system,
        "python" to null,
        "features" to features,
        "int8_dot_product" to int8DotProduct,
        "cores" to cores,
        "governor" to governor,
        "max_frequency_mhz" to maxFrequencyMhz,
        "emulated" to null,
        "virtualization" to emptyList<String>(),
        "versions" to mapOf(network.runtime to network.version),
    )

    private fun Conditions.document() = mapOf(
        "load_average" to null,
        "frequency_mhz" to frequencyMhz,
        "temperature_c" to temperatureC,
        "power" to power,
        "throttle_events" to null,
        "pi_throttled" to null,
    )

    private fun Protocol.document() = mapOf(
        "name" to name.lowercase(),
        "warmup" to warmup,
        "block" to block,
        "blocks" to blocks,
        "min_seconds" to minSeconds,
        "headline" to headline,
        "on_request" to emptyList<String>(),
    )
}
