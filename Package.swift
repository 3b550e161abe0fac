// swift-tools-version: 6.2
import PackageDescription

/// The shipped shared object needs linker flags that would break the test bundle, so the Makefile asks for them.
let isShipped = Context.environment["ROMULUS_SHIPPED"] == "1"
let packageRoot = Context.packageDirectory

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .unsafeFlags(isShipped ? ["-static-stdlib"] : []),
]

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
        .library(name: "simulatedxen", type: .dynamic, targets: ["SimulatedXen"]),
    ],
    targets: [
        // C that Swift's importer cannot see: headers of Xen and Linux, the CRC32C instruction.
        .systemLibrary(name: "CXen"),
        .target(name: "CLinux"),
        .target(name: "CChecksum"),

        // Pure values: formats, protocol, sessions. Imports nothing of Xen or of the OS.
        .target(name: "RomulusCore", dependencies: ["CChecksum"], swiftSettings: strict),
        // The ports on real Xen and Linux: descriptors, relays, configuration, log.
        .target(name: "RomulusHost", dependencies: ["RomulusCore", "CLinux", "CXen"], swiftSettings: strict),
        // Every @_cdecl function, and nothing else.
        .target(
            name: "RomulusHook", dependencies: ["RomulusHost"], exclude: ["exports.map"], swiftSettings: strict,
            linkerSettings: hookLinking),

        // A stand-in for the hypervisor behind the stock libxl-save-helper: tests only.
        .target(
            name: "SimulatedXen", path: "Tests/SimulatedXen", exclude: ["README.md"],
            linkerSettings: [.linkedLibrary("dl")]),

        .testTarget(name: "RomulusCoreTests", dependencies: ["RomulusCore"], swiftSettings: strict),
        .testTarget(name: "RomulusHostTests", dependencies: ["RomulusHost"], swiftSettings: strict),
        .testTarget(
            name: "HelperTests", dependencies: ["RomulusHost", "RomulusHook", "SimulatedXen"], swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6]
)
