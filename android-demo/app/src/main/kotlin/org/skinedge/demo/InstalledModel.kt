package org.skinedge.demo

import android.content.res.AssetManager
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.runtime.RuntimeSettings
import org.skinedge.demo.runtime.TfliteNetwork

/**
 * Opens the model in the app's assets and checks it against its card.
 *
 * Throws [FaultException]: NO_MODEL, or the faults of reading the card and of [Classifier.open].
 */
fun installedModel(assets: AssetManager, settings: RuntimeSettings): Classifier {
    val cards = assets.list("").orEmpty().filter { it.endsWith(ModelCard.SUFFIX) }
    val name = cards.singleOrNull() ?: throw FaultException(Fault.NO_MODEL, "${cards.size} cards in assets, expected one")
    val card = ModelCard.parse(assets.open(name).bufferedReader().use { it.readText() })
    return Classifier.open(card, mapped(assets, card.file)) { TfliteNetwork(it, settings) }
}

/** Maps the file from the APK, where it is stored uncompressed. */
private fun mapped(assets: AssetManager, name: String): ByteBuffer = try {
    assets.openFd(name).use { fd ->
        fd.createInputStream().use { it.channel.map(FileChannel.MapMode.READ_ONLY, fd.startOffset, fd.declaredLength) }
    }
} catch (error: IOException) {
    throw FaultException(Fault.NO_MODEL, error.message ?: name)
}
