package androidx.test.platform.app;

import android.app.Instrumentation;
import android.os.Bundle;

public final class InstrumentationRegistry {
    private static Instrumentation instance;
    private static Bundle arguments;

    public static Instrumentation getInstrumentation() { return instance; }

    public static Bundle getArguments() { return arguments; }

    public static void registerInstance(Instrumentation registered, Bundle with) {
        instance = registered;
        arguments = with;
    }
}
