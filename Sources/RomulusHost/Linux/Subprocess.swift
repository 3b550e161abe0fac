import CLinux
import Glibc
import RomulusCore

/// Another program, in a process group of its own, with a pipe to its standard input and one from both its outputs.
///
/// The process that starts it is `xl`, whose other children are libxl's to reap: this one's neither sees nor is seen by it.
package struct Subprocess: ~Copyable {
    /// The keeper's (romulus_spawn), and of the process group.
    let pid: pid_t
    private var input: Descriptor?
    private let output: Descriptor

    /// - Parameter program: with its arguments; found as execvp(3) finds it.
    package init(_ program: [String]) throws(SystemError) {
        let toChild = try Descriptor.pipe(bytes: 64 << 10)
        let fromChild = try Descriptor.pipe(bytes: 64 << 10)
        var arguments: [UnsafeMutablePointer<CChar>?] = program.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        let pid = romulus_spawn(&arguments, toChild.one.raw, fromChild.other.raw)
        guard pid > 0 else { throw SystemError("clone") }
        self.pid = pid
        input = .some(toChild.other)
        output = fromChild.one
        _ = DescriptorIO.setNonBlocking(output.raw)
    }

    /// What its outputs said since the last time; nil when they have ended. Waits until `deadline` at the most.
    package func read(until deadline: MonotonicTime) -> [UInt8]? {
        var polls = PollSet()
        polls.add(output.raw, reading: true)
        polls.wait(until: deadline)
        var chunk = [UInt8](repeating: 0, count: 4096)
        return switch chunk.withUnsafeMutableBytes({ DescriptorIO.read(output.raw, into: $0) }) {
        case .bytes(let count): Array(chunk.prefix(count))
        case .wouldBlock: []
        case .endOfFile, .failed: nil
        }
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

        /// What went wrong, in the program's own last words.
        package var complaint: String {
            let last = output.split(whereSeparator: \.isNewline).last.map { ": \($0.prefix(200))" } ?? ""
            return (status.map { "exit status \($0)" } ?? "no answer in time") + last
        }
    }

    private static let longestOutputBytes = 64 << 10

    /// Runs a program with that standard input. Ended after the time, or soon after `isCancelled`.
    package static func run(
        _ program: [String], input: String = "", timeoutMilliseconds: Int, isCancelled: () -> Bool = { false }
    ) -> Outcome {
        do throws(SystemError) {
            var child = try Subprocess(program)
            child.write(input)
            let deadline = MonotonicTime.now + .nanoseconds(milliseconds: timeoutMilliseconds)
            var output: [UInt8] = []
            var hasEnded = false
            while !hasEnded, !isCancelled(), MonotonicTime.now < deadline {
                if let piece = child.read(until: min(deadline, .now + .nanoseconds(milliseconds: 100))) {
                    if output.count < longestOutputBytes { output += piece }
                } else {
                    hasEnded = true
                }
            }
            let status = child.end()
            return Outcome(status: hasEnded ? status : nil, output: String(decoding: output, as: UTF8.self))
        } catch {
            return Outcome(status: nil, output: "\(error)")
        }
    }
}
