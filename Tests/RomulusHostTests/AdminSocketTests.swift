import Glibc
import RomulusCore
import Testing

@testable import RomulusHost

@Suite struct AdminSocketTests {
    private let folder = TestFolder()

    /// A session that answers one question.
    private func serve(_ socket: AdminSocket, _ answer: @escaping @Sendable (AdminSocket.Request) -> String) throws
        -> Thread
    {
        let held = Unchecked(socket)
        return try Thread(name: "session") {
            let end = MonotonicTime.now + 5_000_000_000
            while MonotonicTime.now < end {
                var polls = PollSet()
                polls.add(held.value.descriptor, reading: true)
                polls.wait(until: end)
                if let request = held.value.receive() { return held.value.answer(answer(request)) }
            }
        }
    }

    private struct Unchecked: @unchecked Sendable {
        let value: AdminSocket
        init(_ value: AdminSocket) { self.value = value }
    }

    @Test(arguments: AdminSocket.Request.allCases) func aWordReachesItsSessionAndIsAnswered(
        request: AdminSocket.Request
    ) throws {
        let socket = try AdminSocket(name: "a/guest.primary", directory: folder.path)
        let session = try serve(socket) { "heard \($0)" }
        #expect(try AdminSocket.ask(request, of: "a/guest.primary", directory: folder.path) == "heard \(request)")
        session.join()
    }

    @Test func whereNobodyListensNobodyIsAsked() throws {
        #expect(try AdminSocket.ask(.resume, of: "guest.primary", directory: folder.path) == nil)
        // A session that was killed leaves its socket behind; the next one takes its place.
        try folder.write("guest.primary.sock", "")
        #expect(try AdminSocket.ask(.resume, of: "guest.primary", directory: folder.path) == nil)
        let socket = try AdminSocket(name: "guest.primary", directory: folder.path)
        let session = try serve(socket) { _ in "ok" }
        #expect(try AdminSocket.ask(.yield, of: "guest.primary", directory: folder.path) == "ok")
        session.join()
    }

    @Test func aNameThatIsTooLongForASocketIsAnErrorAndNoHarm() {
        #expect(throws: SystemError.self) {
            try AdminSocket(name: String(repeating: "g", count: 200), directory: folder.path)
        }
    }
}
