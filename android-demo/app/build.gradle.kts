plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "org.skinedge.demo"
    compileSdk = libs.versions.targetSdk.get().toInt()

    defaultConfig {
        applicationId = "org.skinedge.demo"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.targetSdk.get().toInt()
        versionCode = 1
        versionName = "0.1.0"
        ndk {
            abiFilters += listOf("arm64-v8a", "armeabi-v7a", "x86_64")
        }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles("proguard.pro")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    kotlinOptions {
        jvmTarget = "1.8"
    }

    androidResources {
        noCompress += "tflite" // mapped into memory directly from the APK
    }
}

// The model: the one that `skinedge android` put into src/main/assets, else the one that ships with skinedge.
val own = fileTree("src/main/assets") { include("*.tflite") }
val model by tasks.registering(Sync::class) {
    from(if (own.isEmpty) "../../skinedge/flagship" else "src/main/assets")
    include(if (own.isEmpty) "*.heatmap.tflite*" else "*.tflite*")
    into(layout.buildDirectory.dir("model"))
}
android.sourceSets["main"].assets.setSrcDirs(listOf(layout.buildDirectory.dir("model")))
tasks.named("preBuild") { dependsOn(model) }

dependencies {
    implementation(project(":core"))
    implementation(libs.tflite)
}
