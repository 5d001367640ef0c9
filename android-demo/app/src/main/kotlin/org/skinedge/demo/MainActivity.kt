package org.skinedge.demo

import android.Manifest
import android.content.Intent
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraAccessException
import android.hardware.camera2.CameraManager
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.os.SystemClock
import android.provider.MediaStore
import android.provider.Settings.ACTION_APPLICATION_DETAILS_SETTINGS
import android.view.Menu
import android.view.MenuItem
import android.view.TextureView
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import org.skinedge.demo.camera.BackCamera
import org.skinedge.demo.camera.CameraFeed
import org.skinedge.demo.camera.CameraListener
import org.skinedge.demo.camera.Framing
import org.skinedge.demo.camera.backCamera
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.core.ModelCard
import org.skinedge.demo.core.Photo
import org.skinedge.demo.views.GuideView
import org.skinedge.demo.views.ScoreView
import org.skinedge.demo.views.picture

/** The start screen: choose a photo, or classify the camera's picture several times a second. */
class MainActivity : Screen(), CameraListener, TextureView.SurfaceTextureListener {
    private var feed: CameraFeed? = null
    private var cameraWanted = false
    private var resumed = false
    private var last: Analysis? = null

    @Volatile
    private var nextFrame = 0L // as SystemClock.elapsedRealtime; read by the camera's thread

    private val preview get() = findViewById<TextureView>(R.id.preview)

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        cameraWanted = state?.getBoolean(CAMERA) ?: cameraAllowed()
        findViewById<Button>(R.id.pick).setOnClickListener { startActivityForResult(photoChoice(), PICK) }
        findViewById<Button>(R.id.camera).setOnClickListener { if (feed == null) askForCamera() else switchOff() }
        findViewById<Button>(R.id.hold).setOnClickListener { last?.let { startActivity(ResultActivity.of(this, held(it.image))) } }
        preview.surfaceTextureListener = this
    }

    override fun onResume() {
        super.onResume()
        resumed = true
        Engine.start(this) { it.card }.listener = object : Outcome<ModelCard> {
            override fun done(value: ModelCard) = modelIsSound(value)
            override fun failed(fault: FaultException) = modelFails(fault)
        }
    }

    override fun onPause() {
        resumed = false
        closeFeed()
        super.onPause()
    }

    override fun onSaveInstanceState(state: Bundle) {
        super.onSaveInstanceState(state)
        state.putBoolean(CAMERA, cameraWanted)
    }

    private fun modelIsSound(card: ModelCard) {
        show(R.id.fault, false)
        show(R.id.buttons, true)
        findViewById<TextView>(R.id.domain).text = words.domain(card)
        findViewById<TextView>(R.id.live_domain).text = words.cameraDomain(card)
        val on = cameraWanted && cameraAllowed()
        showCamera(on)
        if (on && preview.isAvailable) openFeed(preview.surfaceTexture!!)
    }

    private fun modelFails(fault: FaultException) {
        closeFeed()
        for (id in listOf(R.id.buttons, R.id.welcome, R.id.live, R.id.preview, R.id.guide, R.id.evidence)) show(id, false)
        show(R.id.fault, true)
        findViewById<TextView>(R.id.fault_text).text = words.of(fault)
    }

    // The camera: request the permission, open it once allowed and its texture exists, close it with the screen.

    private fun cameraAllowed() = checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED

    private fun askForCamera() {
        cameraWanted = true
        if (cameraAllowed()) {
            showCamera(true)
            if (preview.isAvailable) openFeed(preview.surfaceTexture!!)
        } else {
            requestPermissions(arrayOf(Manifest.permission.CAMERA), CAMERA_PERMISSION)
        }
    }

    override fun onRequestPermissionsResult(request: Int, asked: Array<String>, granted: IntArray) {
        if (request != CAMERA_PERMISSION || granted.isEmpty()) return // interrupted: not decided yet
        if (granted[0] == PackageManager.PERMISSION_GRANTED) return askForCamera()
        cameraWanted = false
        say(R.string.camera_refused)
        if (!shouldShowRequestPermissionRationale(Manifest.permission.CAMERA)) {
            show(R.id.system_settings, true)
            findViewById<Button>(R.id.system_settings).setOnClickListener {
                startActivity(Intent(ACTION_APPLICATION_DETAILS_SETTINGS, Uri.fromParts("package", packageName, null)))
            }
        }
    }

    private fun openFeed(texture: SurfaceTexture) {
        if (feed != null || !resumed || !cameraWanted || !cameraAllowed()) return
        try {
            val camera = backCamera(getSystemService(CameraManager::class.java)) ?: return stopped(getString(R.string.no_camera))
            val framing = framing(camera)
            preview.setTransform(framing.transform(preview.width, preview.height))
            findViewById<GuideView>(R.id.guide).side = framing.squareSide(preview.width, preview.height)
            feed = CameraFeed(this, camera, framing, texture, this)
        } catch (error: CameraAccessException) {
            stopped("${error.message}")
        }
    }

    private fun framing(camera: BackCamera) =
        Framing(camera.size.width, camera.size.height, camera.sensorDegrees, preview.display.rotation)

    private fun closeFeed() {
        feed?.close()
        feed = null
    }

    private fun switchOff() {
        cameraWanted = false
        closeFeed()
        showCamera(false)
    }

    private fun showCamera(on: Boolean) {
        for (id in listOf(R.id.preview, R.id.guide, R.id.evidence, R.id.live)) show(id, on)
        for (id in listOf(R.id.welcome, R.id.pick)) show(id, !on)
        show(R.id.hold, on && last != null)
        findViewById<Button>(R.id.camera).setText(if (on) R.string.camera_off else R.string.camera_on)
        if (!on) findViewById<GuideView>(R.id.guide).side = 0f
    }

    override fun wantsFrame(): Boolean = SystemClock.elapsedRealtime() >= nextFrame

    override fun frame(photo: Photo) {
        nextFrame = Long.MAX_VALUE // until this frame has a result
        runOnUiThread { Engine.start(this) { live(it, photo) }.listener = liveScreen }
    }

    override fun stopped(reason: String) = runOnUiThread {
        switchOff()
        say(R.string.camera_stopped, reason)
    }

    private val liveScreen = object : Outcome<LiveFrame> {
        override fun done(value: LiveFrame) {
            nextFrame = SystemClock.elapsedRealtime() + PAUSE_MS
            if (feed != null) show(value)
        }

        override fun failed(fault: FaultException) {
            nextFrame = SystemClock.elapsedRealtime() + PAUSE_MS
            if (feed != null) findViewById<TextView>(R.id.headline).text = words.of(fault)
        }
    }

    /** The model's result for the last frame. */
    fun show(frame: LiveFrame) {
        val found = frame.analysis
        last = found
        show(R.id.hold, true)
        findViewById<ImageView>(R.id.evidence).setImageBitmap(frame.evidence)
        findViewById<TextView>(R.id.headline).text = words.headline(found.answer)
        val second = found.answer.top(2).drop(1).joinToString { "${words.className(it.label)} ${words.percent(it.probability)}" }
        findViewById<TextView>(R.id.second).text = second
        findViewById<TextView>(R.id.malignant).text = words.malignant(found.answer, found.card)
        findViewById<ScoreView>(R.id.malignant_bar).show(found.answer.malignantScore.toFloat(), found.card.flagFrom.toFloat())
        val runtime = words.runtime(found.runtime, Settings(this).runtime)
        findViewById<TextView>(R.id.runtime).text = getString(R.string.took, words.milliseconds(found.inferMs), runtime)
    }

    private fun say(text: Int, vararg facts: Any) {
        findViewById<TextView>(R.id.status).text = getString(text, *facts)
        show(R.id.status, true)
    }

    // The texture of the camera's preview.

    override fun onSurfaceTextureAvailable(texture: SurfaceTexture, width: Int, height: Int) = openFeed(texture)

    override fun onSurfaceTextureSizeChanged(texture: SurfaceTexture, width: Int, height: Int) {
        closeFeed()
        openFeed(texture)
    }

    override fun onSurfaceTextureDestroyed(texture: SurfaceTexture): Boolean {
        closeFeed()
        return true
    }

    override fun onSurfaceTextureUpdated(texture: SurfaceTexture) = Unit

    // Photos and the other screens.

    private fun photoChoice(): Intent =
        if (Build.VERSION.SDK_INT >= 33) {
            Intent(MediaStore.ACTION_PICK_IMAGES).setType("image/*")
        } else {
            Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val photo = data?.data ?: return
        if (request == PICK && result == RESULT_OK) startActivity(ResultActivity.of(this, photo))
    }

    override fun onCreateOptionsMenu(menu: Menu): Boolean {
        menuInflater.inflate(R.menu.main, menu)
        return true
    }

    override fun onOptionsItemSelected(item: MenuItem): Boolean {
        val screen = when (item.itemId) {
            R.id.settings -> SettingsActivity::class.java
            R.id.benchmark -> BenchmarkActivity::class.java
            else -> return super.onOptionsItemSelected(item)
        }
        startActivity(Intent(this, screen))
        return true
    }

    private companion object {
        const val PICK = 1
        const val CAMERA_PERMISSION = 2
        const val CAMERA = "camera"
        const val PAUSE_MS = 200L // between two results, so that they can be read
    }
}

/** A result, and the model's input overlaid with the evidence for the top class; null without heatmap. */
class LiveFrame(val analysis: Analysis, val evidence: Bitmap?)

/** Classifies a frame. Throws FaultException. */
fun live(model: Classifier, photo: Photo): LiveFrame {
    val found = analyse(model, photo)
    val evidence = found.answer.heatmap(found.answer.top(1).single().index)
    return LiveFrame(found, evidence?.let { picture(found.image, it) })
}
