package org.skinedge.demo

import android.content.ContentResolver
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.media.ExifInterface
import android.net.Uri
import java.io.IOException
import java.io.InputStream
import org.skinedge.demo.core.ColourProfile
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.Photo
import org.skinedge.demo.core.SRGB
import org.skinedge.demo.core.SrgbPhoto
import org.skinedge.demo.core.endsEarly
import org.skinedge.demo.core.readProfile
import org.skinedge.demo.core.refuseLarge
import org.skinedge.demo.core.upright
import org.skinedge.demo.core.withoutProfile

/**
 * An upright photo. reducedBy: divisor of its sides to fit into memory; 1 for full size; profile: of its colours, null for
 * sRGB and without one.
 */
class DecodedPhoto(val photo: Photo, val reducedBy: Int, val profile: ColourProfile?)

private const val BYTES_PER_PIXEL = 4L
private const val MOST_REDUCED = 64

/**
 * Decodes a photo at full size or, if it exceeds `budget` bytes, with its sides divided by 2, 4, ...
 *
 * colour: the model's rule for photos with a colour profile. Android never sees the profile, so the pixels are the stored
 * ones; files of other kinds than JPEG, PNG, WebP, GIF and BMP are refused by the rule [SRGB].
 * Throws [FaultException]: PHOTO_UNREADABLE, also for a truncated file; PHOTO_PIXELS; PHOTO_16_BIT; PHOTO_COLOURS;
 * PHOTO_TOO_LARGE.
 */
fun ContentResolver.decode(uri: Uri, colour: String, budget: Long = spareBytes()): DecodedPhoto {
    val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
    read(uri) { BitmapFactory.decodeStream(it, null, bounds) }
    if (bounds.outWidth < 1 || bounds.outHeight < 1) throw FaultException(Fault.PHOTO_UNREADABLE, "${bounds.outMimeType ?: "?"}")
    refuseLarge(bounds.outWidth, bounds.outHeight)
    if (read(uri) { endsEarly(it.buffered()) }) throw FaultException(Fault.PHOTO_CUT_OFF)
    val file = read(uri) { withoutProfile(it) }
    if (file.bits == 16) throw FaultException(Fault.PHOTO_16_BIT)
    if (file.kind == null && colour == SRGB) throw FaultException(Fault.PHOTO_COLOURS, "${bounds.outMimeType}")
    val profile = file.profile?.let(::readProfile)?.takeIf { it.table != null || it.problem != null }
    val table = profile?.table.takeIf { colour == SRGB }
    var reducedBy = reduction(bounds.outWidth, bounds.outHeight, budget)
    while (reducedBy <= MOST_REDUCED) {
        try {
            val bitmap = read(uri) { pixels(withoutProfile(it).plain, reducedBy) }
            val stored = BitmapPhoto((bitmap ?: throw FaultException(Fault.PHOTO_UNREADABLE, bounds.outMimeType)).asSrgb())
            val photo = if (table == null) stored else SrgbPhoto(stored, table)
            return DecodedPhoto(upright(photo, orientation(uri)), reducedBy, profile)
        } catch (error: OutOfMemoryError) {
            reducedBy *= 2
        }
    }
    throw FaultException(Fault.PHOTO_TOO_LARGE, "${bounds.outWidth}", "${bounds.outHeight}")
}

/** The smallest power of two that divides both sides so that the pixels fit into `budget` bytes. */
fun reduction(width: Int, height: Int, budget: Long): Int {
    var divisor = 1
    while (divisor <= MOST_REDUCED && BYTES_PER_PIXEL * (width / divisor) * (height / divisor) > budget) divisor *= 2
    return divisor
}

/** Half of the memory still available to this process, in bytes. */
private fun spareBytes(): Long = Runtime.getRuntime().run { maxMemory() - totalMemory() + freeMemory() } / 2

private fun pixels(stream: InputStream, reducedBy: Int): Bitmap? {
    val options = BitmapFactory.Options().apply {
        inSampleSize = reducedBy
        inPreferredConfig = Bitmap.Config.ARGB_8888
        inPremultiplied = false
        inScaled = false
    }
    return BitmapFactory.decodeStream(stream, null, options)
}

/** The EXIF orientation, 1 without the tag. */
private fun ContentResolver.orientation(uri: Uri): Int = read(uri) {
    try {
        ExifInterface(it).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
    } catch (error: RuntimeException) { // thrown by older systems' readers for malformed tags
        ExifInterface.ORIENTATION_NORMAL
    }
}

private fun <T> ContentResolver.read(uri: Uri, use: (InputStream) -> T): T = try {
    (openInputStream(uri) ?: throw IOException("$uri")).use(use)
} catch (error: IOException) {
    throw FaultException(Fault.PHOTO_UNREADABLE, error.message ?: "$uri")
} catch (error: RuntimeException) { // from another app: a revoked permission, or its provider's exception
    throw FaultException(Fault.PHOTO_UNREADABLE, error.message ?: "$uri")
}
