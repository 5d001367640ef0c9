import android.graphics.RectF
import android.util.Size
import android.view.Surface
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import org.skinedge.demo.camera.Framing
import org.skinedge.demo.camera.frameSize

/** The position of a camera's frames on the screen, in every rotation of the device. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [28, 35])
@GraphicsMode(GraphicsMode.Mode.NATIVE)
class FramingTest {

    /** A phone's camera: its sensor is mounted sideways, so an upright device must rotate its frames by 90 degrees. */
    @Test
    fun allOfAFrameIsSeenInItsProportions() {
        val turns = mapOf(Surface.ROTATION_0 to 90, Surface.ROTATION_90 to 0, Surface.ROTATION_180 to 270, Surface.ROTATION_270 to 180)
        for ((rotation, degrees) in turns) for ((width, height) in listOf(360 to 400, 400 to 360, 100 to 800)) {
            val framing = Framing(640, 480, sensorDegrees = 90, rotation = rotation)
            assertEquals(degrees, framing.frameDegrees)
            val seen = RectF(0f, 0f, width.toFloat(), height.toFloat())
            framing.transform(width, height).mapRect(seen)
            val expected = if (degrees % 180 == 0) 640f / 480 else 480f / 640
            assertEquals(expected, seen.width() / seen.height(), 1e-3f)
            assertEquals(width / 2f, seen.centerX(), 1e-2f)
            assertEquals(height / 2f, seen.centerY(), 1e-2f)
            val fills = maxOf(seen.width() / width, seen.height() / height)
            assertEquals("as large as the view allows", 1f, fills, 1e-3f)
            assertEquals(minOf(seen.width(), seen.height()), framing.squareSide(width, height), 1e-2f)
        }
    }

    @Test
    fun frameSizesAreLargeEnoughAndNoLarger() {
        val offered = listOf(Size(4000, 3000), Size(640, 480), Size(320, 240), Size(1280, 720))
        assertEquals(Size(640, 480), frameSize(offered))
        assertEquals(Size(320, 240), frameSize(listOf(Size(320, 240), Size(176, 144))))
        assertTrue(runCatching { frameSize(emptyList()) }.isFailure)
    }
}
