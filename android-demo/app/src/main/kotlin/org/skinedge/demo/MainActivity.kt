package org.skinedge.demo

import android.app.Activity
import android.content.Intent
import android.graphics.BitmapFactory
import android.net.Uri
import android.os.Bundle
import android.widget.Button
import android.widget.TextView
import java.util.concurrent.Executors
import org.skinedge.demo.core.Answer
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.runtime.RuntimeSettings

/** Pick a photo, read what the model says of it. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var classifier: Classifier? = null

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.main)
        findViewById<Button>(R.id.pick).setOnClickListener {
            val photos = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
            startActivityForResult(photos, PICK)
        }
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        val photo = data?.data ?: return
        if (request == PICK && result == RESULT_OK) worker.execute { show(photo) }
    }

    private fun show(photo: Uri) {
        val text = try {
            described(classify(photo))
        } catch (fault: FaultException) {
            fault.message
        }
        runOnUiThread { findViewById<TextView>(R.id.result).text = text }
    }

    private fun classify(photo: Uri): Answer {
        val model = classifier ?: installedModel(assets, RuntimeSettings(threads = 2, xnnpack = true)).also { classifier = it }
        val options = BitmapFactory.Options().apply { inPremultiplied = false }
        val bitmap = contentResolver.openInputStream(photo).use { BitmapFactory.decodeStream(it, null, options) }
            ?: throw FaultException(Fault.PHOTO_UNREADABLE, "$photo")
        return model.classify(BitmapPhoto(bitmap))
    }

    private fun described(answer: Answer): String =
        answer.top(3).joinToString("\n") { "${it.label}  ${(100 * it.probability).toInt()} %" }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private companion object {
        const val PICK = 1
    }
}
