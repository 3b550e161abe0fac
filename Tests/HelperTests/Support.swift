import Foundation
import SimulatedXen
import Synchronization

/// A failed system call with its errno.
struct SystemFailure: Error, CustomStringConvertible {
    let operation: String
    let errorNumber: Int32

    init(_ operation: String, errorNumber: Int32 = errno) {
        self.operation = operation
        self.errorNumber = errorNumber
    }

    var description: String { "\(operation): \(String(cString: strerror(errorNumber)))" }
}

enum HelperTestError: Error {
    case timedOut(waitingFor: String)
    case endOfStream
    case malformedMessage
    case unexpectedMessage(UInt16)
    case unexpectedRecord(UInt32)
    case notALibxlStream
    case notASimulatedDomain
    case guestDoesNotStandStill
}

/// The same numbers for the same seed, in Swift and in simulatedxen.h.
struct SeededGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next(below bound: UInt64) -> UInt64 { simxen_random(&state) % bound }
}

/// A folder that disappears with the object.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/romulus-helper-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemFailure("mkdtemp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func callAsFunction(_ name: String) -> String { path + "/" + name }
}

/// An open file that is closed with the object. Its offset is shared with the helper that inherits it.
final class OpenFile: Sendable {
    let descriptor: Int32

    init(_ path: String, _ flags: Int32) throws {
        descriptor = open(path, flags | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemFailure("open \(path)") }
    }

    init(adopting descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Ends a socket's stream in both directions, whoever else holds it open.
    func shutDown() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Both ends of a stream socket, as a stream between two helpers.
    static func pair() throws -> (OpenFile, OpenFile) {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw SystemFailure("socketpair") }
        return (OpenFile(adopting: ends[0]), OpenFile(adopting: ends[1]))
    }
}

/// Reads and writes of whole buffers, none of which waits past its deadline.
enum BoundedIO {
    /// Throws `endOfStream` at end of file, even in the middle.
    static func read(_ count: Int, from descriptor: Int32, deadline: ContinuousClock.Instant) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            try waitUntilReady(descriptor, Int16(POLLIN), deadline)
            let result = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + done, count - done) }
            if result == 0 { throw HelperTestError.endOfStream }
            if result > 0 { done += result } else if errno != EINTR { throw SystemFailure("read") }
        }
        return bytes
    }

    static func write(_ bytes: [UInt8], to descriptor: Int32, deadline: ContinuousClock.Instant) throws {
        var done = 0
        while done < bytes.count {
            try waitUntilReady(descriptor, Int16(POLLOUT), deadline)
            let result = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
            if result > 0 { done += result } else if result < 0, errno != EINTR { throw SystemFailure("write") }
        }
    }

    private static func waitUntilReady(
        _ descriptor: Int32, _ events: Int16, _ deadline: ContinuousClock.Instant
    ) throws {
        while true {
            let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
            guard left > 0 else { throw HelperTestError.timedOut(waitingFor: "descriptor \(descriptor)") }
            var request = pollfd(fd: descriptor, events: events, revents: 0)
            let ready = poll(&request, 1, Int32(min(left.rounded(.up), 60_000)))
            if ready > 0 { return }
            if ready < 0, errno != EINTR { throw SystemFailure("poll") }
        }
    }
}

/// A closure in a thread of its own, and its value.
final class Background<Value: Sendable>: Sendable {
    private let result = Mutex<Result<Value, any Error>?>(nil)
    private let hasEnded = DispatchSemaphore(value: 0)

    init(_ body: @escaping @Sendable () throws -> Value) {
        Thread.detachNewThread { [self] in
            let value = Result { try body() }
            result.withLock { $0 = value }
            hasEnded.signal()
        }
    }

    /// Waits for the end; may be asked once.
    func value(within limit: Duration = .seconds(60)) throws -> Value {
        guard hasEnded.wait(timeout: .now() + limit / .seconds(1)) == .success else {
            throw HelperTestError.timedOut(waitingFor: "a background thread")
        }
        return try result.withLock { $0! }.get()
    }
}

/// Copies of a domain, one for each epoch that a test wants to compare with later.
final class EpochCopies: Sendable {
    private let copies = Mutex<[Int: SimulatedDomain]>([:])

    func keep(_ copy: SimulatedDomain, _ epoch: Int) { copies.withLock { $0[epoch] = copy } }

    subscript(_ epoch: Int) -> SimulatedDomain? { copies.withLock { $0[epoch] } }
}

/// A value that several threads change.
final class Shared<Value: Sendable>: Sendable {
    private let storage: Mutex<Value>

    init(_ value: Value) { storage = Mutex(value) }

    var value: Value { storage.withLock { $0 } }
    func set(_ value: Value) { storage.withLock { $0 = value } }
    func change(_ body: (inout Value) -> Void) { storage.withLock { body(&$0) } }
}
