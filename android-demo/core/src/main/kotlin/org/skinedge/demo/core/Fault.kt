package org.skinedge.demo.core

/**
 * The possible errors of a model, a photo or a result.
 *
 * english: a sentence with a `%s` for each fact, in order. An app in another language has its own text for each fault,
 * with the same facts.
 */
enum class Fault(val english: String) {
    NO_MODEL("No model is installed: %s."),
    CARD_UNREADABLE("The model's card cannot be read: %s."),
    CARD_SCHEMA("The model's card is of schema '%s'; this app reads '%s'."),
    CARD_INCOMPLETE("The model's card is not sound: %s."),
    MODEL_CHANGED("%s is not the file that its card describes: sha256 %s, the card says %s."),
    MODEL_UNREADABLE("The inference library refuses the model: %s."),
    INPUT_DIFFERS("The model takes %s, its card says %s."),
    OUTPUT_DIFFERS("The model gives %s, its card says %s."),
    LABELS_DIFFER("The model gives %s probabilities, its card names %s classes."),
    INFERENCE_FAILED("The inference library stopped: %s."),
    NO_NUMBERS("The model gave no numbers (NaN or infinite)."),
    PHOTO_UNREADABLE("The photo cannot be read: %s."),
    PHOTO_CUT_OFF("The photo's file ends before the photo does."),
    PHOTO_STRIP("The photo, %s x %s pixels, is more than %s times as long as wide."),
    PHOTO_PIXELS("The photo of %s megapixels is larger than the limit of %s."),
    PHOTO_16_BIT("The photo has 16 bits per value, which Android reads differently from skinedge."),
    PHOTO_COLOURS("The colour profile of a file of this kind cannot be read here: %s."),
    PHOTO_TOO_LARGE("The photo, %s x %s pixels, is too large for this device."),
}

/** The only exception of the core that a screen must handle; message: the fault in English. */
class FaultException(val fault: Fault, vararg val facts: String) : Exception(fault.english.format(*facts))
