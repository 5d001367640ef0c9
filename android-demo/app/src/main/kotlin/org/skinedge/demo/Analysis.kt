package org.skinedge.demo

import android.content.ContentResolver
import android.net.Uri
import org.skinedge.demo.core.Answer
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.ColourProfile
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.core.Photo
import org.skinedge.demo.core.Prepared
import org.skinedge.demo.core.milliseconds
import org.skinedge.demo.core.prepare

/**
 * The result for one photo. prepareMs, inferMs: time of resizing and of the model; reducedBy, profile: as in [DecodedPhoto].
 */
class Analysis(
    val card: ModelCard,
    val runtime: String,
    val image: Prepared,
    val answer: Answer,
    val prepareMs: Double,
    val inferMs: Double,
    val reducedBy: Int,
    val profile: ColourProfile?,
)

/** Decodes, prepares and classifies a photo. Throws FaultException. */
fun analyse(model: Classifier, photos: ContentResolver, uri: Uri): Analysis {
    val decoded = photos.decode(uri, model.card.colour)
    return analyse(model, decoded.photo, decoded.reducedBy, decoded.profile)
}

fun analyse(model: Classifier, photo: Photo, reducedBy: Int = 1, profile: ColourProfile? = null): Analysis {
    lateinit var image: Prepared
    lateinit var answer: Answer
    val prepareMs = milliseconds { image = prepare(photo, model.card.size) }
    val inferMs = milliseconds { answer = model.classify(image) }
    val runtime = "${model.network.runtime} ${model.network.version}"
    return Analysis(model.card, runtime, image, answer, prepareMs, inferMs, reducedBy, profile)
}
