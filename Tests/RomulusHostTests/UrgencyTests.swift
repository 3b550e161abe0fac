import Glibc
import Testing

@testable import RomulusHost

@Suite(.serialized) struct UrgencyTests {
    private func locked() throws -> Int {
        let status = try FileContents.read("/proc/self/status", limitBytes: 1 << 16)
        let lines = String(decoding: status, as: UTF8.self).split(separator: "\n")
        let line = lines.first { $0.hasPrefix("VmLck:") }
        return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
    }

    @Test(.enabled(if: geteuid() == 0)) func memoryIsLockedAndLetGoOf() throws {
        let log = Log(guest: "test")
        Urgency.lockMemory(log)
        defer { Urgency.unlockMemory() }
        #expect(try locked() > 0 && log.newestEvent == nil)
        Urgency.unlockMemory()
        #expect(try locked() == 0)
    }

    /// A backup gives the memory of a large epoch back.
    @Test(.enabled(if: geteuid() == 0)) func memoryThatIsLockedCanBeGivenBack() throws {
        Urgency.lockMemory(Log(guest: "test"))
        defer { Urgency.unlockMemory() }
        let memory = try MappedMemory(byteCount: 1 << 20)
        memory.bytes.initializeMemory(as: UInt8.self, repeating: 7)
        MappedMemory.discard(memory.bytes)
        #expect(memory.bytes.allSatisfy { $0 == 0 })
        memory.bytes[4096] = 1
        #expect(memory.bytes[4096] == 1)
    }
}
