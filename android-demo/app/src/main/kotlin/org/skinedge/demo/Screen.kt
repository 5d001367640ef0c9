package org.skinedge.demo

import android.app.Activity
import android.view.View
import android.widget.Toolbar

/** Base of all screens: a bar with the title, and content clear of system bars. */
abstract class Screen : Activity() {
    protected val words by lazy { Words(resources) }

    override fun onContentChanged() {
        super.onContentChanged()
        setActionBar(findViewById<Toolbar>(R.id.toolbar))
        actionBar?.setDisplayHomeAsUpEnabled(this !is MainActivity)
        val screen = findViewById<View>(R.id.screen)
        screen.setOnApplyWindowInsetsListener { view, insets -> insets.also { view.padBy(it) } }
    }

    protected fun show(id: Int, shown: Boolean) {
        findViewById<View>(id).visibility = if (shown) View.VISIBLE else View.GONE
    }
}
