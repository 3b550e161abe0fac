import Foundation

/// A program that is run to its end, with both its outputs in one.
enum Program {
    static func run(
        _ executable: String, _ arguments: [String], _ environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"].merging(environment) { $1 }
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }

    /// Xen's own judgement of a file that holds a stream: libxl's, or libxc's alone.
    static func verifyStream(_ path: String, format: String = "libxl") throws -> (status: Int32, output: String) {
        try run(
            "/usr/lib/xen-4.17/bin/verify-stream-v2", ["-i", path, "-f", format, "-v"],
            ["PYTHONPATH": "/usr/lib/xen-4.17/lib/python"])
    }
}
