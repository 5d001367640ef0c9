import java.io.File;
import java.io.FileInputStream;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.Set;
import org.codehaus.mojo.animal_sniffer.SignatureChecker;
import org.codehaus.mojo.animal_sniffer.logging.PrintWriterLogger;

/** Sniff SIGNATURE JAR: lists every framework member that the jar uses and the signature lacks; exit code 1 if any. */
public class Sniff {
    public static void main(String[] arguments) throws Exception {
        Set<String> packed = new HashSet<>();
        for (String name : new String[] {"org.skinedge.*", "org.tensorflow.*", "kotlin.*"}) packed.add(name);
        SignatureChecker checker = new SignatureChecker(
            new FileInputStream(arguments[0]), packed, new PrintWriterLogger(System.out));
        checker.setSourcePath(new ArrayList<>());
        checker.setAnnotationTypes(Collections.singleton("org.skinedge.demo.Newer"));
        checker.process(new File(arguments[1]));
        System.exit(checker.isSignatureBroken() ? 1 : 0);
    }
}
