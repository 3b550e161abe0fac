// swift-tools-version: 6.2
import PackageDescription

/// The shipped shared object needs linker flags that would break the test bundle, so the Makefile asks for them.
let isShipped = Context.environment["ROMULUS_SHIPPED"] == "1"
let packageRoot = Context.packageDirectory

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .unsafeFlags(isShipped ? ["-static-stdlib"] : []),
]

/// What is imported is linked: without these the shared object would carry modules that it has no use for.
let small: [SwiftSetting] = [
    .unsafeFlags([
        "-Xfrontend", "-disable-implicit-string-processing-module-import",
        "-Xfrontend", "-disable-implicit-concurrency-module-import",
    ])
]

/// In debug builds too: a guest waits for this code, and tests count what it allocates.
let optimised = strict + small + [.unsafeFlags(["-O"])]

let hookLinking: [LinkerSetting] =
    isShipped
    ? [
        .unsafeFlags([
            "-static-stdlib",
            "-Xlinker", "-soname", "-Xlinker", "libromulus.so.0",
            "-Xlinker", "-z", "-Xlinker", "defs",
            "-Xlinker", "--gc-sections",
            "-Xlinker", "--version-script=\(packageRoot)/Sources/RomulusHook/exports.map",
        ])
    ] : []

let package = Package(
    name: "romulus",
    products: [
        .library(name: "romulus", type: .dynamic, targets: ["RomulusHook"]),
        .executable(name: "romulus-cli", targets: ["romulus-cli"]),
        .library(name: "simulatedxen", type: .dynamic, targets: ["SimulatedXen"]),
    ],
    dependencies: [
        // One version, so that two builds give the same bytes.
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
    ],
    targets: [
        // C that Swift's importer cannot see: headers of Xen, Linux and libraries, the CRC32C instruction.
        .systemLibrary(name: "CXen"),
        // What plugins are compiled with.
        .systemLibrary(name: "RomulusPlugin"),
        .systemLibrary(name: "CNetlink", pkgConfig: "libnl-route-3.0", providers: [.apt(["libnl-route-3-dev"])]),
        .systemLibrary(name: "CYajl", providers: [.apt(["libyajl-dev"])]),
        .target(name: "CLinux"),
        .target(name: "CChecksum"),
        // The inner loops over pages, chosen by the processor.
        .target(name: "CPages"),
        .systemLibrary(name: "CCompression", providers: [.apt(["liblz4-dev", "libzstd-dev"])]),

        // Pure values: formats, protocol, sessions. Imports nothing of Xen or of the OS.
        .target(
            name: "RomulusCore", dependencies: ["CChecksum", "CCompression", "CPages"],
            swiftSettings: optimised),
        // Both sides of a run, and everything that can go wrong between them, on one simulated clock: tests only.
        .target(
            name: "RomulusSimulation", dependencies: ["RomulusCore"], swiftSettings: optimised),
        // The ports on real Xen and Linux: descriptors, relays, configuration, log.
        .target(
            name: "RomulusHost", dependencies: ["RomulusCore", "RomulusPlugin", "CLinux", "CXen", "CNetlink", "CYajl"],
            swiftSettings: optimised),
        // `romulus check`. Not Host's: the shared object has no use for it.
        .target(
            name: "RomulusCheck", dependencies: ["RomulusHost", "RomulusCore", "CXen"], swiftSettings: strict,
            linkerSettings: [.linkedLibrary("xentoollog")]),
        // What xl and its save helper call in libxl's and libxc's place, and the runs behind it.
        .target(
            name: "RomulusHook", dependencies: ["RomulusHost"], exclude: ["exports.map"], swiftSettings: strict + small,
            linkerSettings: hookLinking),

        // The command `romulus`.
        .executableTarget(
            name: "romulus-cli",
            dependencies: [
                "RomulusCheck", "RomulusHost", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict),

        // A stand-in for the hypervisor behind the stock libxl-save-helper: tests only.
        .target(
            name: "SimulatedXen", path: "Tests/SimulatedXen", exclude: ["README.md"],
            linkerSettings: [.linkedLibrary("dl")]),

        // xl, as far as its guard is concerned with it: tests only.
        .executableTarget(
            name: "guarded-xl", dependencies: ["RomulusHook", "RomulusHost"], path: "Tests/GuardedXl",
            swiftSettings: strict),

        // `make bench`.
        .executableTarget(
            name: "romulus-bench", dependencies: ["RomulusCore", "RomulusSimulation", "CPages", "CCompression"],
            path: "Tests/Benchmarks",
            exclude: ["traces"], swiftSettings: strict),

        .testTarget(
            name: "RomulusCoreTests", dependencies: ["RomulusCore", "RomulusSimulation"], swiftSettings: strict),
        .testTarget(name: "SimulationTests", dependencies: ["RomulusSimulation"], swiftSettings: strict),
        .testTarget(name: "RomulusHostTests", dependencies: ["RomulusCheck", "RomulusHost"], swiftSettings: strict),
        .testTarget(name: "CommandTests", dependencies: ["romulus-cli"], swiftSettings: strict),
        .testTarget(
            name: "HelperTests", dependencies: ["RomulusHost", "RomulusHook", "SimulatedXen"], swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
