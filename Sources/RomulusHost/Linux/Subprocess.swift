import CLinux
import Glibc
import RomulusCore

/// Another program, in a process group of its own, with a pipe to its standard input and one from both its outputs, or one
/// from each.
///
/// The process that starts it is `xl`, whose other children are libxl's to reap: this one's neither sees nor is seen by it.
package struct Subprocess: ~Copyable {
    /// The keeper's (romulus_spawn), and of the process group.
    let pid: pid_t
    private var input: Descriptor?
    private let output: Descriptor
    /// Apart from its output, or not there.
    private var errorOutput: Descriptor?
    /// What it has said there so far, as far as it was read.
    package private(set) var errors: [UInt8] = []
    private var status: Int32?

    /// - Parameters:
    ///   - program: with its arguments; found as execvp(3) finds it.
    ///   - environment: `NAME=value` each; nil is this process's.
    ///   - isErrorApart: whether standard error is no part of what `read` gives.
    package init(
        _ program: [String], environment: [String]? = nil, isErrorApart: Bool = false
    ) throws(SystemError) {
        let toChild = try Descriptor.pipe(bytes: 64 << 10)
        let fromChild = try Descriptor.pipe(bytes: 64 << 10)
        let errors = try Descriptor.pipe(bytes: 64 << 10)
        var arguments: [UnsafeMutablePointer<CChar>?] = program.map { strdup($0) } + [nil]
        var variables: [UnsafeMutablePointer<CChar>?] = (environment ?? []).map { strdup($0) } + [nil]
        defer { for text in arguments + variables { free(text) } }
        let errorsForChild = isErrorApart ? errors.other.raw : fromChild.other.raw
        let pid = variables.withUnsafeMutableBufferPointer {
            romulus_spawn(
                &arguments, environment == nil ? nil : $0.baseAddress, toChild.one.raw, fromChild.other.raw,
                errorsForChild)
        }
        guard pid > 0 else { throw SystemError("clone") }
        self.pid = pid
        input = .some(toChild.other)
        output = fromChild.one
        errorOutput = .some(errors.one)
        if !isErrorApart { errorOutput = nil }
        _ = DescriptorIO.setNonBlocking(output.raw)
        if let raw = errorOutput?.raw { _ = DescriptorIO.setNonBlocking(raw) }
    }

    /// What its output said since the last time; nil when it has ended. Waits until `deadline` at the most.
    package mutating func read(until deadline: MonotonicTime) -> [UInt8]? {
        var polls = PollSet()
        polls.add(output.raw, reading: true)
        polls.add(errorOutput?.raw ?? -1, reading: true)
        polls.wait(until: deadline)
        readErrors()
        return Self.piece(of: output.raw)
    }

    /// More than is kept is thrown away, so that it can go on.
    private mutating func readErrors() {
        while let raw = errorOutput?.raw {
            guard let piece = Self.piece(of: raw) else {
                errorOutput = nil
                return
            }
            if piece.isEmpty { return }
            if errors.count < Self.longestOutputBytes { errors += piece }
        }
    }

    /// What is there at this moment; nil at its end.
    private static func piece(of raw: Int32) -> [UInt8]? {
        var chunk = [UInt8](repeating: 0, count: 4096)
        return switch chunk.withUnsafeMutableBytes({ DescriptorIO.read(raw, into: $0) }) {
        case .bytes(let count): Array(chunk.prefix(count))
        case .wouldBlock: []
        case .endOfFile, .failed: nil
        }
    }

    /// Whether the program itself has ended; others may hold its output open.
    private mutating func hasEnded() -> Bool {
        if status == nil { status = reap(within: 0) }
        return status != nil
    }

    /// All of its standard input: at most what a pipe takes at once, so this does not wait.
    package mutating func write(_ text: String) {
        send(text)
        input = nil
    }

    /// A piece of its standard input, with more to follow. As much as `write` takes, as long as it is read.
    package mutating func send(_ text: String) {
        let bytes = Array(text.utf8.prefix(60 << 10))
        if let raw = input?.raw { _ = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) } }
    }

    /// Ends it, and whatever it has started, if it has not ended yet; nil then, and its own exit status otherwise.
    package consuming func end() -> Int32? {
        input = nil
        if let status { return status }
        if let status = reap(within: 500) { return status }
        kill(-pid, SIGTERM)
        let isReaped = reap(within: 500) != nil
        // The keeper may be gone before others of the group that took no notice.
        kill(-pid, SIGKILL)
        if !isReaped { _ = reap(within: 5000) }
        return nil
    }

    private func reap(within milliseconds: Int) -> Int32? {
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: milliseconds)
        while true {
            var status: Int32 = 0
            if romulus_reap(pid, &status) { return status }
            if MonotonicTime.now >= deadline { return nil }
            usleep(2000)
        }
    }

    // MARK: To its end

    package struct Outcome: Equatable {
        /// Nil when it was ended.
        package var status: Int32?
        package var output: String
        /// Where it was asked for apart from the output.
        package var errors = ""

        /// What went wrong, in the program's own last words.
        package var complaint: String {
            let last =
                (errors.isEmpty ? output : errors).split(whereSeparator: \.isNewline).last.map { ": \($0.prefix(200))" }
                ?? ""
            return (status.map { "exit status \($0)" } ?? "no answer in time") + last
        }
    }

    private static let longestOutputBytes = 64 << 10

    /// Runs a program with that standard input. Ended after the time, or soon after `isCancelled`. Whoever it leaves behind
    /// with its output is not waited for.
    package static func run(
        _ program: [String], input: String = "", environment: [String]? = nil, isErrorApart: Bool = false,
        timeoutMilliseconds: Int, isCancelled: () -> Bool = { false }
    ) -> Outcome {
        do throws(SystemError) {
            var child = try Subprocess(program, environment: environment, isErrorApart: isErrorApart)
            child.write(input)
            let deadline = MonotonicTime.now + .nanoseconds(milliseconds: timeoutMilliseconds)
            var output: [UInt8] = []
            var hasEnded = false
            while !hasEnded, !isCancelled(), MonotonicTime.now < deadline {
                // Before the look at its output, so that nothing of it is missed.
                let isGone = child.hasEnded()
                if let piece = child.read(until: min(deadline, .now + .nanoseconds(milliseconds: isGone ? 0 : 100))) {
                    if output.count < longestOutputBytes { output += piece }
                    hasEnded = isGone && piece.isEmpty
                } else {
                    hasEnded = true
                }
            }
            child.readErrors()
            let errors = child.errors
            let status = child.end()
            return Outcome(
                status: hasEnded ? status : nil, output: String(decoding: output, as: UTF8.self),
                errors: String(decoding: errors, as: UTF8.self))
        } catch {
            return Outcome(status: nil, output: "\(error)")
        }
    }
}
