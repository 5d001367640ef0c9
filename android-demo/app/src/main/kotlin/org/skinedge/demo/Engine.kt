package org.skinedge.demo

import android.content.Context
import android.os.Handler
import android.os.Looper
import java.util.concurrent.Executors
import org.skinedge.demo.core.Classifier
import org.skinedge.demo.core.Fault
import org.skinedge.demo.core.FaultException
import org.skinedge.demo.runtime.RuntimeSettings

/** The app's model and the thread that loads and runs it, shared by all screens. */
object Engine {
    private val thread = Executors.newSingleThreadExecutor()
    private val main = Handler(Looper.getMainLooper())
    private var loaded: Pair<RuntimeSettings, Classifier>? = null // used by the model's thread only

    /** Opens the model. Throws FaultException. */
    @Volatile
    var source: (Context, RuntimeSettings) -> Classifier = { context, settings -> installedModel(context.assets, settings) }

    /** Starts work with the model, loaded with the current settings. work: must not hold a screen; its exception is reported. */
    fun <T> start(context: Context, work: (Classifier) -> T): Task<T> {
        val application = context.applicationContext
        return start { work(model(application)) }
    }

    /** Starts work that opens its own model. */
    fun <T> start(work: () -> T): Task<T> {
        val task = Task<T>()
        thread.execute {
            val outcome = attempt(work)
            main.post { task.finish(outcome) }
        }
        return task
    }

    /** Closes the model; the next work loads it again. */
    fun forget() = thread.execute {
        loaded?.second?.close()
        loaded = null
    }

    private fun model(application: Context): Classifier {
        val wanted = Settings(application).runtime
        loaded?.let { (settings, model) -> if (settings == wanted) return model }
        loaded?.second?.close()
        loaded = null
        return source(application, wanted).also { loaded = wanted to it }
    }

    private fun <T> attempt(work: () -> T): (Outcome<T>) -> Unit = try {
        val value = work()
        ({ it.done(value) })
    } catch (fault: FaultException) {
        ({ it.failed(fault) })
    } catch (error: RuntimeException) { // thrown by the inference library
        failure(error)
    } catch (error: OutOfMemoryError) {
        failure(error)
    }

    private fun <T> failure(error: Throwable): (Outcome<T>) -> Unit {
        val fault = FaultException(Fault.INFERENCE_FAILED, error.message ?: error.javaClass.simpleName)
        return { it.failed(fault) }
    }
}
