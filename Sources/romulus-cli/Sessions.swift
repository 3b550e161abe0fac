import Glibc
import RomulusHost

/// What the sessions on this host say of themselves.
enum Sessions {
    /// - Parameter guest: of this guest only.
    static func statuses(of guest: String? = nil) throws -> [JSON] {
        var found: [JSON] = []
        for name in AdminSocket.names() {
            let answer: String?
            do throws(SystemError) { answer = try AdminSocket.ask(.status, of: name) } catch {
                // One that ends at this moment, or stands still.
                guard error.code == EACCES || error.code == EPERM else { continue }
                throw failure("\(error): must be root")
            }
            guard let status = answer.flatMap(JSON.init(parsing:)) else { continue }
            if let guest, status["guest"]?.text != guest { continue }
            found.append(status)
        }
        return found
    }
}
