package org.skinedge.demo

import android.app.Activity
import android.view.View
import android.widget.Toolbar

/** What all screens have: a bar with their title, and content that nothing of the system covers. */
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
