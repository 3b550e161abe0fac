import Glibc
import RomulusCore
import RomulusHost

/// The other host, asked by one command over one connection: first for its report, then for its clock.
public struct RemoteHost {
    public enum Answer: Equatable, Sendable {
        /// The samples are nil where it did not answer the echoes; the words are what the login printed before; what it did
        /// not say of what it was asked to look at is missing.
        case report(HostReport, LinkSamples?, loginWords: String? = nil, looks: [HostLook: Bool] = [:])
        case withoutSSH
        /// ssh's own failure.
        case unreachable(String)
        /// It is reached, and knows no `romulus check`.
        case withoutRomulus(String)
        case notUnderstood(String)

        /// As the other host has it.
        public var connection: PeerConnection? {
            if case .report(let report, _, _, _) = self { report.connection } else { nil }
        }
    }

    static let echoes = 15
    private static let mostNoiseLines = 100
    /// Nanoseconds since 1970 that no difference of two overflows.
    private static let clocks: ClosedRange<Int64> = 0...(1 << 62)
    let command: [String]
    var looks: [HostLook] = []
    var timeoutMilliseconds = 120_000
    var echoTimeoutMilliseconds = 5000

    /// As `xl remus` starts the other side: what works here works there.
    /// - Parameter looks: what it is to look at besides.
    public init(ssh host: String, looks: [HostLook]) {
        self.looks = looks
        command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", host, "romulus", "check", "--report"]
    }

    init(command: [String]) { self.command = command }

    public func ask() -> Answer {
        do throws(SystemError) { return hear(try Subprocess(command, isErrorApart: true)) } catch {
            return .unreachable("\(error)")
        }
    }

    private func hear(_ started: consuming Subprocess) -> Answer {
        var child = started
        var reader = LineReader()
        let deadline = MonotonicTime.now + .nanoseconds(milliseconds: timeoutMilliseconds)
        var noise: [String] = []
        while let line = reader.next(from: &child, until: deadline) {
            if line == ReportFormat.begin {
                return report(child, &reader, until: deadline, loginWords: noise.first { !$0.isEmpty } ?? noise.first)
            }
            noise.append(line)
            if noise.count > Self.mostNoiseLines { break }
        }
        let wasInTime = MonotonicTime.now < deadline
        noise += LineReader.lines(of: child.errors)
        let status = child.end()
        return wasInTime ? failure(status, noise) : .notUnderstood("no answer in \(timeoutMilliseconds / 1000) s")
    }

    private func report(
        _ started: consuming Subprocess, _ reader: inout LineReader, until deadline: MonotonicTime, loginWords: String?
    ) -> Answer {
        var child = started
        var lines: [String] = []
        while let line = reader.next(from: &child, until: deadline) {
            guard line != ReportFormat.end else {
                let answer: Answer
                do throws(ReportError) {
                    answer = .report(
                        try HostReport(lines: lines), measure(&child, &reader), loginWords: loginWords,
                        looks: look(&child, &reader))
                } catch {
                    answer = .notUnderstood("\(error)")
                }
                _ = child.end()
                return answer
            }
            lines.append(line)
        }
        _ = child.end()
        return .notUnderstood("its report has no end")
    }

    private func measure(_ child: inout Subprocess, _ reader: inout LineReader) -> LinkSamples? {
        var samples: [LinkSamples.Sample] = []
        for number in 1...Self.echoes {
            let question = "\(ReportFormat.echo) \(number)"
            let sent = wallClockNanoseconds()
            child.send(question + "\n")
            let deadline = MonotonicTime.now + .nanoseconds(milliseconds: echoTimeoutMilliseconds)
            guard let line = reader.next(from: &child, until: deadline) else { break }
            let received = wallClockNanoseconds()
            let words = line.split(separator: " ")
            guard words.count == 3, words.prefix(2).joined(separator: " ") == question, let clock = Int64(words[2]),
                Self.clocks.contains(clock)
            else {
                break
            }
            samples.append(.init(sentNanoseconds: sent, otherNanoseconds: clock, receivedNanoseconds: received))
        }
        // The first one pays for what the connection has not done yet.
        return LinkSamples(samples.count > 1 ? Array(samples.dropFirst()) : samples)
    }

    private func look(_ child: inout Subprocess, _ reader: inout LineReader) -> [HostLook: Bool] {
        var answers: [HostLook: Bool] = [:]
        for look in looks {
            guard let question = look.line else { continue }
            child.send(question + "\n")
            let deadline = MonotonicTime.now + .nanoseconds(milliseconds: echoTimeoutMilliseconds)
            switch reader.next(from: &child, until: deadline) {
            case "\(question): yes": answers[look] = true
            case "\(question): no": answers[look] = false
            default: return answers
            }
        }
        return answers
    }

    /// ssh keeps 255 for itself, and a shell 127 for a command that is not there; both say why in their last line.
    private func failure(_ status: Int32?, _ noise: [String]) -> Answer {
        let words = noise.last ?? "it said nothing"
        return switch status {
        case 127 where noise.last == "not found, or not a program": .withoutSSH
        case 255: .unreachable(words)
        case 127, 64: .withoutRomulus(words)
        case let status?: .notUnderstood("exit status \(status): \(words)")
        case nil: .notUnderstood(words)
        }
    }
}

/// The other end of it: what the hidden `romulus check --report` does.
public enum ReportService {
    /// Answers echoes, and looks at what it is asked for, until standard input ends.
    public static func run() {
        write(HostSurvey.report(peer: .ofReceiver()).text)
        while let line = readLine() {
            guard line.utf8.count <= ReportFormat.longestLineBytes else { return }
            if let look = HostLook(line: line) {
                write("\(line): \(look.isSo() ? "yes" : "no")\n")
            } else if line.hasPrefix("\(ReportFormat.echo) ") {
                write("\(line) \(wallClockNanoseconds())\n")
            } else {
                return
            }
        }
    }

    private static func write(_ text: String) {
        let bytes = Array(text.utf8)
        _ = bytes.withUnsafeBytes { Glibc.write(1, $0.baseAddress, $0.count) }
    }
}

/// Since 1970, as everybody's clock.
private func wallClockNanoseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

/// Lines of a program's output; too long ones, and too much, are an end.
private struct LineReader {
    private var rest: [UInt8] = []
    private var totalBytes = 0
    private var hasEnded = false

    mutating func next(from child: inout Subprocess, until deadline: MonotonicTime) -> String? {
        while true {
            if let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                defer { rest.removeFirst(end + 1) }
                return Self.printable(rest[..<end])
            }
            guard !hasEnded else { return last() }
            guard rest.count <= ReportFormat.longestLineBytes, totalBytes <= ReportFormat.longestBytes,
                MonotonicTime.now < deadline
            else { return nil }
            if let piece = child.read(until: deadline) {
                rest += piece
                totalBytes += piece.count
            } else {
                hasEnded = true
            }
        }
    }

    /// A last line without an end.
    private mutating func last() -> String? {
        defer { rest = [] }
        return rest.isEmpty ? nil : Self.printable(rest[...])
    }

    static func lines(of bytes: [UInt8]) -> [String] {
        bytes.split(separator: UInt8(ascii: "\n")).map { printable($0) }
    }

    /// What another host says goes to an admin's terminal.
    private static func printable(_ bytes: ArraySlice<UInt8>) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        return String(text.unicodeScalars.filter { $0.properties.isPrintable }.map(Character.init))
    }
}
