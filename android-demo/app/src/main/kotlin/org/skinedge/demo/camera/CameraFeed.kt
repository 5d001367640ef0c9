@file:Suppress("DEPRECATION") // createCaptureSession(List, ...): its successor needs Android 9

package org.skinedge.demo.camera

import android.content.Context
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.hardware.camera2.CaptureRequest
import android.media.Image
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.util.Size
import android.view.Surface
import org.skinedge.demo.core.Photo
import org.skinedge.demo.core.Plane
import org.skinedge.demo.core.YuvPhoto
import org.skinedge.demo.core.orientationOf
import org.skinedge.demo.core.upright

/** Receives a camera's frames and errors, on the feed's thread. */
interface CameraListener {
    /** Returns true to receive the next frame; called before it is copied. */
    fun wantsFrame(): Boolean
    fun frame(photo: Photo)
    fun stopped(reason: String)
}

/** The rear camera and its frame sizes. */
class BackCamera(val id: String, val sensorDegrees: Int, val size: Size)

/** The first rear camera, or null. Throws CameraAccessException. */
fun backCamera(manager: CameraManager): BackCamera? = manager.cameraIdList.firstNotNullOfOrNull { id ->
    val facts = manager.getCameraCharacteristics(id)
    val sizes = facts[CameraCharacteristics.SCALER_STREAM_CONFIGURATION_MAP]?.getOutputSizes(ImageFormat.YUV_420_888)
    if (facts[CameraCharacteristics.LENS_FACING] != CameraCharacteristics.LENS_FACING_BACK || sizes.isNullOrEmpty()) {
        null
    } else {
        BackCamera(id, facts[CameraCharacteristics.SENSOR_ORIENTATION] ?: 0, frameSize(sizes.asList()))
    }
}

/** The smallest size with enough pixels for every model, else the largest. */
fun frameSize(sizes: List<Size>): Size {
    val enough = sizes.filter { minOf(it.width, it.height) >= LEAST_SIDE }
    return enough.minByOrNull { it.width * it.height } ?: sizes.maxByOrNull { it.width * it.height }!!
}

private const val LEAST_SIDE = 480

/** Shows a camera's picture on a texture and delivers its frames until it is closed. */
class CameraFeed(
    context: Context,
    private val camera: BackCamera,
    private val framing: Framing,
    texture: SurfaceTexture,
    private val listener: CameraListener,
) : AutoCloseable {
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private val reader = ImageReader.newInstance(camera.size.width, camera.size.height, ImageFormat.YUV_420_888, 2)
    private val surface: Surface
    private var device: CameraDevice? = null
    private var closed = false // used by the feed's thread only, like the device
    private var awaited = false // the system is still opening a device, which must then be closed

    private fun open(manager: CameraManager) = guarded {
        manager.openCamera(camera.id, opening, handler)
        awaited = true
    }

    private val opening = object : CameraDevice.StateCallback() {
        override fun onOpened(opened: CameraDevice) {
            awaited = false
            if (closed) return end(opened, "")
            device = opened
            guarded { opened.createCaptureSession(listOf(surface, reader.surface), starting, handler) }
        }

        override fun onDisconnected(lost: CameraDevice) = end(lost, "another app took it")

        override fun onError(lost: CameraDevice, error: Int) = end(lost, "error $error")
    }

    private val starting = object : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) = guarded {
            val request = session.device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
            request.addTarget(surface)
            request.addTarget(reader.surface)
            request[CaptureRequest.CONTROL_AF_MODE] = CaptureRequest.CONTROL_AF_MODE_CONTINUOUS_PICTURE
            session.setRepeatingRequest(request.build(), null, handler)
        }

        override fun onConfigureFailed(session: CameraCaptureSession) = end(session.device, "it refuses this size")
    }

    init {
        texture.setDefaultBufferSize(camera.size.width, camera.size.height)
        surface = Surface(texture)
        reader.setOnImageAvailableListener({ take(it) }, handler)
        handler.post { open(context.getSystemService(CameraManager::class.java)) }
    }

    private fun take(images: ImageReader) {
        val image = images.acquireLatestImage() ?: return
        image.use { if (!closed && listener.wantsFrame()) listener.frame(upright(copied(it), orientationOf(framing.frameDegrees))) }
    }

    private fun end(lost: CameraDevice, reason: String) {
        lost.close()
        device = null
        awaited = false
        if (closed) thread.quitSafely() else listener.stopped(reason)
    }

    /** Handles exceptions of the camera service: the camera is gone, in use elsewhere, or no longer allowed. */
    private fun guarded(act: () -> Unit) {
        if (closed) return
        try {
            act()
        } catch (error: CameraAccessException) {
            listener.stopped("${error.message}")
        } catch (error: RuntimeException) { // no longer allowed, or just closed
            listener.stopped("${error.message}")
        }
    }

    override fun close() {
        handler.post {
            closed = true
            device?.close()
            reader.close()
            surface.release()
            if (!awaited) thread.quitSafely()
        }
    }
}

/** Copies a frame, since the camera reuses its buffers. */
private fun copied(image: Image): Photo {
    val (y, u, v) = image.planes.map { plane ->
        val bytes = ByteArray(plane.buffer.remaining())
        plane.buffer.get(bytes)
        Plane(bytes, plane.rowStride, plane.pixelStride)
    }
    return YuvPhoto(image.width, image.height, y, u, v)
}
